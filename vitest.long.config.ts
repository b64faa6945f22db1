/** The tests that take minutes: crashes by the hundred, many agents, much data. One file at a time. */
import { defineConfig } from 'vitest/config';
import { slowTests } from './vitest.slow.ts';

const twentyMinutes = 20 * 60_000;

export default defineConfig({
  test: {
    include: ['test/long/**/*.test.ts', ...slowTests],
    globalSetup: 'test/support/temporary-files.ts',
    testTimeout: twentyMinutes,
    hookTimeout: twentyMinutes,
    expect: { poll: { timeout: 60_000 } },
    fileParallelism: false,
  },
});
