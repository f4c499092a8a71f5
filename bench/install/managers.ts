/** A package manager, and how it is used in an empty folder. */
export type Manager = {
  readonly name: string;
  /** The npm package that contains it. */
  readonly from: string;
  /** Its program, relative to that package's folder: a Node script or a binary. */
  readonly program: string;
  readonly install: readonly string[];
  /** The same again with nothing installed and everything in the cache. */
  readonly offline: readonly string[];
  /** Prefix of an installed package's command. */
  readonly exec: readonly string[];
  /** Files in its folder besides package.json, by name. */
  readonly settings?: (registry: string) => Readonly<Record<string, string>>;
  /** The version of Node that it needs, if this process's does not work. */
  readonly node?: string;
};

const npm = (version: number, node?: string): Manager => ({
  name: `npm ${version}`,
  from: `npm@${version}`,
  program: "bin/npm-cli.js",
  install: ["install", "kvsplice"],
  offline: ["install", "kvsplice", "--offline"],
  exec: ["exec", "--no", "--"],
  ...(node !== undefined && { node }),
});

const pnpm = (version: number, program: string): Manager => ({
  name: `pnpm ${version}`,
  from: `pnpm@${version}`,
  program,
  install: ["add", "kvsplice"],
  offline: ["add", "kvsplice", "--offline"],
  exec: ["exec"],
});

const yarnBerry = (name: string, linker: "node-modules" | "pnp"): Manager => ({
  name,
  from: "@yarnpkg/cli-dist@4",
  program: "bin/yarn.js",
  install: ["add", "kvsplice"],
  offline: ["install"],
  exec: ["run"],
  settings: (registry) => ({
    "yarn.lock": "",
    ".yarnrc.yml": [
      `npmRegistryServer: "${registry.replace(/\/$/, "")}"`,
      "unsafeHttpWhitelist: [127.0.0.1]", // this measurement's registry
      `nodeLinker: ${linker}`,
      "enableTelemetry: false",
      "npmMinimalAgeGate: 0",
    ].join("\n"),
  }),
});

export const MANAGERS: readonly Manager[] = [
  npm(10),
  npm(11),
  npm(12, "22"),
  pnpm(10, "bin/pnpm.cjs"),
  pnpm(12, "pnpm"),
  {
    name: "yarn 1",
    from: "yarn@1",
    program: "bin/yarn.js",
    install: ["add", "kvsplice"],
    offline: ["add", "kvsplice", "--offline"],
    exec: ["run", "--silent"],
  },
  yarnBerry("yarn 4", "node-modules"),
  yarnBerry("yarn 4 pnp", "pnp"),
];
