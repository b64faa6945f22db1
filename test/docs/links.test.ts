/** Every link and every mention of a page leads somewhere. */
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { anchorsOf, linksOf, pages, project } from './markdown.ts';

test('every relative link leads to a file that exists, and to a heading in it', async () => {
  const broken: string[] = [];
  let followed = 0;
  for (const page of await pages()) {
    for (const link of linksOf(page)) {
      if (/^[a-z]+:/.test(link)) continue;
      const [path = '', anchor] = link.split('#');
      const target = path === '' ? page : relative(project, resolve(project, dirname(page), path));
      followed += 1;
      if (!existsSync(join(project, target))) broken.push(`${page}: ${link}: no such file`);
      else if (anchor !== undefined && !anchorsOf(target).includes(anchor))
        broken.push(`${page}: ${link}: no such heading`);
    }
  }
  expect(broken).toEqual([]);
  expect(followed).toBeGreaterThan(20);
});

test('every page that the code speaks of exists, and so does every section', async () => {
  const broken: string[] = [];
  for (const folder of ['src', 'test', 'scripts', 'bench', 'examples']) {
    for (const file of await readdir(join(project, folder), { recursive: true })) {
      if (!/\.(?:ts|mjs)$/.test(file)) continue;
      const text = await readFile(join(project, folder, file), 'utf8');
      for (const [, page = '', section] of text.matchAll(
        /\b(docs\/[\w/-]+\.md)(?:,\s+(?:\*\s+)?section (\d+))?/g,
      )) {
        const heading = section === undefined ? undefined : new RegExp(`^${section}-`);
        if (!existsSync(join(project, page))) broken.push(`${folder}/${file}: ${page}`);
        else if (heading && !anchorsOf(page).some((anchor) => heading.test(anchor)))
          broken.push(`${folder}/${file}: ${page}, section ${section}`);
      }
    }
  }
  expect(broken).toEqual([]);
});
