import { join } from 'node:path';
import { defineConfig } from 'vitest/config';
import { slowTests } from './vitest.slow.ts';

const source = (path: string): string => join(import.meta.dirname, 'src', path);

export default defineConfig({
  resolve: {
    // The examples import the package by its name; what is tested is the source, built or not.
    alias: [
      { find: /^can-swarm$/, replacement: source('index.ts') },
      { find: /^can-swarm\/testing$/, replacement: source('testing/index.ts') },
    ],
  },
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/long/**', 'node_modules/**', ...slowTests],
    globalSetup: 'test/support/temporary-files.ts',
    isolate: false, // a file's own state is its own, and a module is loaded once for all files
    maxWorkers: 2, // most wait for processes, servers and disks
    // What hangs; a busy machine takes three times as long as one that is not.
    testTimeout: 180_000,
    hookTimeout: 180_000,
    expect: { poll: { timeout: 60_000 } },
  },
});
