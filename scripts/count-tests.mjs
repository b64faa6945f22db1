#!/usr/bin/env node
/**
 * Prints `N passed, M failed` over the files named: reports that vitest wrote with `--reporter=json`.
 *
 * A test file that could not be run at all counts as one failure, and so does a report that is not there.
 */
import { readFile } from 'node:fs/promises';

let passed = 0;
let failed = 0;
for (const path of process.argv.slice(2)) {
  try {
    const report = JSON.parse(await readFile(path, 'utf8'));
    passed += report.numPassedTests;
    failed += report.numFailedTests;
    failed += report.testResults.filter(
      (file) => file.status === 'failed' && file.assertionResults.length === 0,
    ).length;
  } catch {
    failed += 1;
  }
}
console.log(`${passed} passed, ${failed} failed`);
