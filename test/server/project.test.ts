import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { projectFolder } from '../../src/server/project.ts';
import { temporaryFolder } from '../support/folder.ts';

test("a project's .swarm lies beside the nearest package.json, seen from any folder below it", async () => {
  await using folder = await temporaryFolder();
  const project = join(folder.path, 'project');
  const deep = join(project, 'src', 'deep');
  await mkdir(deep, { recursive: true });
  await writeFile(join(folder.path, 'package.json'), '{}');
  await writeFile(join(project, 'package.json'), '{}');
  expect(projectFolder(deep)).toBe(join(project, '.swarm'));
  expect(projectFolder(project)).toBe(join(project, '.swarm'));
});

test('without a package.json it lies in the folder itself', async () => {
  await using folder = await temporaryFolder();
  expect(projectFolder(folder.path)).toBe(join(folder.path, '.swarm'));
});
