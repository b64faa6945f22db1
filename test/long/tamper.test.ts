/** Every byte of every kind of line, with every replacement: a quarter of a minute or more for each. */
import { expect, test } from 'vitest';
import { AttackedLog, replacements } from '../support/attacked-log.ts';

test.each(Object.entries(replacements))(
  'every byte with %s is found, and its line named',
  async (_, replace) => {
    using log = await AttackedLog.write();
    expect(await log.missed(replace)).toEqual([]);
  },
);
