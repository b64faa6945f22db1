#!/usr/bin/env node
/**
 * Names in package-lock.json the optional packages of other platforms that npm left out.
 *
 * npm leaves an optional package out of the lock where the registry at hand does not have it, and `npm ci` then
 * refuses the lock, even on platforms that do not want that package. Version, os and cpu follow from the parent's
 * exact pin and the name. Run it after `npm install`, and commit what it changes.
 */
import { readFileSync, writeFileSync } from 'node:fs';

const path = new URL('../package-lock.json', import.meta.url);
const lock = JSON.parse(readFileSync(path, 'utf8'));
const oses = [
  'android',
  'darwin',
  'freebsd',
  'linux',
  'openharmony',
  'win32',
  'netbsd',
  'openbsd',
  'sunos',
  'aix',
];
const cpus = ['x64', 'arm64', 'arm', 'ia32', 'ppc64', 'riscv64', 's390x', 'loong64', 'mips64el'];
let added = 0;
for (const [where, parent] of Object.entries(lock.packages)) {
  for (const [name, version] of Object.entries(parent.optionalDependencies ?? {})) {
    // npm's own lookup: nested beside the parent, then upwards
    let folder = where,
      found = false;
    for (;;) {
      if (lock.packages[`${folder}${folder ? '/' : ''}node_modules/${name}`]) {
        found = true;
        break;
      }
      if (folder === '') break;
      folder = folder.replace(/\/?node_modules\/(@[^/]+\/)?[^/]+$/, '');
    }
    if (found) continue;
    const tokens = name.replace(/^@[^/]+\//, '').split('-');
    const os = oses.find((o) => tokens.includes(o));
    const cpu = cpus.find((c) => tokens.includes(c));
    if (!os || !/^\d/.test(version)) {
      console.log('not understood:', where, name, version);
      continue;
    }
    const entry = { version };
    if (cpu) entry.cpu = [cpu];
    if (tokens.includes('musl')) entry.libc = ['musl'];
    if (tokens.includes('gnu')) entry.libc = ['glibc'];
    if (parent.dev) entry.dev = true;
    entry.optional = true;
    entry.os = [os];
    lock.packages[`node_modules/${name}`] = entry;
    added++;
    console.log('added', name, version, os, cpu ?? '');
  }
}
const { '': root, ...rest } = lock.packages;
lock.packages = {
  '': root,
  ...Object.fromEntries(Object.entries(rest).sort(([a], [b]) => a.localeCompare(b, 'en'))),
};
writeFileSync(path, `${JSON.stringify(lock, null, 2)}\n`);
console.log(`${added} added`);
