import { expect, test } from 'vitest';
import { parseAptSources } from '../../src/server/apt-sources.ts';

const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';
const uri = 'https://archive.example/debian';

const sources: Record<string, { name: string; text: string; finds: ReturnType<typeof parseAptSources> }> = {
  'a line': { name: 'sources.list', text: `deb ${uri} bookworm main contrib`, finds: [{ uri }] },
  'a line with options and a comment': {
    name: 'debian.list',
    text: `# deb ${uri}/old bookworm main\n  deb [ arch=amd64 signed-by=${keyring} ] ${uri} trixie main # all of it`,
    finds: [{ uri, signedBy: keyring }],
  },
  'a paragraph': {
    name: 'debian.sources',
    text: `Types: deb deb-src\n# ours\nURIs: ${uri} ${uri}-2\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By: ${keyring}\n`,
    finds: [
      { uri, signedBy: keyring },
      { uri: `${uri}-2`, signedBy: keyring },
    ],
  },
  'a paragraph with the key in it, in another order': {
    name: 'debian.sources',
    text: `\n\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\nComponents: main\nsuites: sid\nUris:\n  ${uri}\nTypes: deb\n`,
    finds: [{ uri, signedBy: '\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc' }],
  },
  'a paragraph that is switched off': {
    name: 'debian.sources',
    text: `Types: deb\nEnabled: no\nURIs: ${uri}\nSuites: trixie\nComponents: main\n`,
    finds: [],
  },
  'sources only': { name: 'sources.list', text: `deb-src ${uri} trixie main`, finds: [] },
  "Debian's security archive": {
    name: 'sources.list',
    text: `deb ${uri}-security bookworm-security main\ndeb ${uri}-security bullseye/updates main`,
    finds: [],
  },
  Ubuntu: {
    name: 'ubuntu.sources',
    text: `Types: deb\nURIs: ${uri}\nSuites: noble noble-updates\nComponents: main universe\n`,
    finds: [],
  },
  "somebody else's packages for Debian": {
    name: 'sources.list',
    text: `deb ${uri} bookworm-pgdg main\ndeb ${uri} bookworm stable\ndeb ${uri} cloud-sdk-bookworm main`,
    finds: [],
  },
  'nothing but trusted without a signature, which is not taken over': {
    name: 'sources.list',
    text: `deb [trusted=yes] ${uri} bookworm main`,
    finds: [{ uri }],
  },
  'what is no source at all': { name: 'x.sources', text: 'Types deb\n: :\n \n\0', finds: [] },
};

test.each(Object.entries(sources))('%s', (_, { name, text, finds }) => {
  expect(parseAptSources(name, text)).toEqual(finds);
});
