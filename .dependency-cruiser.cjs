/**
 * Which folder of src/ may import which: the table of docs/architecture.md, held by `npm run check`.
 */
const layers = {
  base: [],
  identity: ['base'],
  merkle: ['base', 'identity'],
  record: ['base', 'identity', 'merkle'],
  log: ['base', 'identity', 'merkle', 'record'],
  verify: ['base', 'identity', 'merkle', 'record', 'log'],
  handler: ['base', 'identity', 'record'],
  replay: ['base', 'identity', 'record', 'log', 'verify', 'handler'],
  bus: ['base'],
  server: ['base'],
  agent: ['base', 'identity', 'merkle', 'record', 'log', 'handler', 'bus'],
  testing: ['base', 'identity', 'handler', 'replay', 'bus', 'server', 'agent'],
  cli: [
    'base',
    'identity',
    'merkle',
    'record',
    'log',
    'verify',
    'handler',
    'replay',
    'bus',
    'server',
    'agent',
  ],
};

const onlyIn = (name, folders, packages) => ({
  name,
  severity: 'error',
  from: { path: '^src/', pathNot: `^src/(${folders})` },
  to: { path: `(^|/)node_modules/(${packages})/` },
});

module.exports = {
  forbidden: [
    ...Object.entries(layers).map(([folder, allowed]) => ({
      name: `${folder}-imports-only-what-it-stands-on`,
      severity: 'error',
      from: { path: `^src/${folder}/` },
      to: { path: '^src/', pathNot: `^src/(${[folder, ...allowed].join('|')})/` },
    })),
    {
      name: 'every-folder-is-in-the-table',
      severity: 'error',
      from: { path: '^src/[^/]+/', pathNot: `^src/(${Object.keys(layers).join('|')})/` },
      to: {},
    },
    { name: 'no-circles', severity: 'error', from: {}, to: { circular: true } },
    onlyIn('only-bus-knows-nats', 'bus/', '@nats-io'),
    onlyIn('only-our-own-files-are-read-with-zod', 'identity/keyring|verify/state', 'zod'),
    onlyIn('only-the-command-talks-to-people', 'cli/', 'commander|cli-progress|cli-table3'),
    {
      name: 'no-dev-packages-in-the-product',
      severity: 'error',
      from: { path: '^src/' },
      to: { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown'], dependencyTypesNot: ['type-only'] },
    },
    { name: 'all-resolves', severity: 'error', from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types'],
    },
  },
};
