import { defineConfig } from 'vitest/config';
import { slowTests } from './vitest.slow.ts';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/long/**', 'node_modules/**', ...slowTests],
    maxWorkers: 2, // most wait for processes, servers and disks
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
