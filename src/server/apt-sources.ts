/**
 * The Debian archives a machine already uses, read from its own apt sources. Pure.
 *
 * Both spellings of sources.list(5) are understood: a line each (`*.list`) and paragraphs (`*.sources`,
 * deb822). An archive counts as Debian's if it offers `main` for a suite that only Debian has names for;
 * Ubuntu's suites, Debian's security archive and everybody else's (`bookworm-pgdg`) do not.
 */

/** An archive as a source names it. */
export interface DebianArchive {
  readonly uri: string;
  /** The value of Signed-By: a keyring's path, a fingerprint or a whole key. Absent: apt's default. */
  readonly signedBy?: string;
}

const debianSuite =
  /^(?:bullseye|bookworm|trixie|forky|duke|sid|oldoldstable|oldstable|stable|testing|unstable)(?:-updates|-backports)?$/;

/** Returns the Debian archives that the file called `name` holds; `name` decides which spelling it is read in. */
export function parseAptSources(name: string, text: string): DebianArchive[] {
  return name.endsWith('.sources') ? parseParagraphs(text) : parseLines(text);
}

function parseLines(text: string): DebianArchive[] {
  const archives: DebianArchive[] = [];
  for (const line of text.split('\n')) {
    const parts = /^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]*)/.exec(line);
    if (parts === null) continue;
    const [, options = '', uri = '', suite = '', components = ''] = parts;
    const signedBy = /(?:^|\s)signed-by=(\S+)/i.exec(options)?.[1];
    if (isDebian([suite], components)) archives.push(archive(uri, signedBy));
  }
  return archives;
}

function parseParagraphs(text: string): DebianArchive[] {
  const lines = text.split('\n').filter((line) => !line.startsWith('#'));
  const paragraphs = lines.join('\n').split(/\n\s*\n/);
  return paragraphs.flatMap((paragraph) => {
    const fields = parseFields(paragraph);
    const offersPackages = words(fields.get('types')).includes('deb');
    const switchedOff = /^(?:no|false|without|off|disable|0)$/i.test(fields.get('enabled') ?? '');
    if (!offersPackages || switchedOff) return [];
    if (!isDebian(words(fields.get('suites')), fields.get('components') ?? '')) return [];
    return words(fields.get('uris')).map((uri) => archive(uri, fields.get('signed-by')));
  });
}

/** Returns the fields of a deb822 paragraph, by lowercase name; lines that start with a space continue the last. */
function parseFields(paragraph: string): Map<string, string> {
  const fields = new Map<string, string>();
  let last = '';
  for (const line of paragraph.split('\n')) {
    const named = /^([A-Za-z][A-Za-z-]*):[ \t]*(.*)$/.exec(line);
    if (named !== null) {
      last = (named[1] ?? '').toLowerCase();
      fields.set(last, (named[2] ?? '').trimEnd());
    } else if (/^[ \t]/.test(line) && fields.has(last)) {
      fields.set(last, `${fields.get(last)}\n${line.trimEnd()}`);
    }
  }
  return fields;
}

function isDebian(suites: readonly string[], components: string): boolean {
  return suites.some((suite) => debianSuite.test(suite)) && words(components).includes('main');
}

function archive(uri: string, signedBy: string | undefined): DebianArchive {
  return signedBy === undefined || signedBy === '' ? { uri } : { uri, signedBy };
}

function words(text = ''): string[] {
  return text.split(/\s+/).filter((word) => word !== '');
}
