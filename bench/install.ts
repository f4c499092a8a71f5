/**
 * What `npm install kvsplice` takes and prints in an empty folder, with each package manager: the packages of `npm run release`
 * come from a registry on this machine, everything else from npm's, with default settings and an empty cache. Then the output of
 * `kvsplice --version`, a question over a document, and the same again from the cache without any network (on Linux, in a
 * separate network namespace).
 *
 *     npm run build && npx tsx bench/install.ts
 *     npx tsx bench/install.ts --only "npm 11,pnpm 12"
 *
 * It takes a minute or two for each, and 2 GB of disk while it runs.
 */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { pack } from "../release/pack.js";
import { MANAGERS, type Manager } from "./install/managers.js";
import { startRegistry } from "./install/registry.js";

const QUESTION = "Who kept the lighthouse?";
const DOCUMENT = "Mary Ellis kept the lighthouse at Gull Point for forty years, from 1901.";

/** Lines that managers print when all is well; all others are shown. */
const SILENT =
  /^$|^(added|\d+ packages are|  run `npm fund`|npm notice|Progress:|Packages: |Packages are|  (Content|Virtual)|Downloading|\++$|Done in|dependencies:|\+ )|^\[[1-5]\/[1-5]\]|^➤ YN0000|YN0013|YN0085|├─|└─|^info |^success |^yarn add/;

/** `output` has both streams. */
type Result = { readonly ok: boolean; readonly stdout: string; readonly output: string; readonly seconds: number };
type Call = (args: readonly string[], network?: boolean) => Promise<Result>;

const { values } = parseArgs({ options: { only: { type: "string" } } });
const only = values.only?.split(",") ?? MANAGERS.map(({ name }) => name);
const chosen = only.map((name) => {
  const manager = MANAGERS.find((each) => each.name === name);
  if (manager === undefined) throw new Error(`${name} is unknown. Choose from: ${MANAGERS.map((each) => each.name).join(", ")}.`);
  return manager;
});

const home = await mkdtemp(join(tmpdir(), "kvsplice-install-"));
try {
  const registry = await startRegistry(await pack(join(home, "packages")));
  for (const manager of chosen) {
    await measure(manager, registry.url, join(home, manager.name.replaceAll(" ", "-")));
  }
  registry.close();
} finally {
  await rm(home, { recursive: true, force: true });
}

async function measure(manager: Manager, registry: string, at: string): Promise<void> {
  const folder = join(at, "empty");
  await mkdir(folder, { recursive: true });
  const settings = { ".npmrc": `registry=${registry}\n`, "package.json": '{ "private": true }\n', ...manager.settings?.(registry) };
  for (const [file, text] of Object.entries(settings)) await writeFile(join(folder, file), text);
  const { command, node } = await fetchManager(manager, join(at, "manager"));
  const environment = {
    PATH: `${join(node, "..")}:${process.env.PATH}`,
    HOME: join(at, "home"),
    KVSPLICE_CACHE_DIR: join(home, "cache"),
    NO_COLOR: "1",
    ...(process.env.NODE_EXTRA_CA_CERTS !== undefined && { NODE_EXTRA_CA_CERTS: process.env.NODE_EXTRA_CA_CERTS }),
  };
  await mkdir(environment.HOME);
  const call: Call = (args, network = true) => {
    const words = [...(network ? [] : ["unshare", "--net", "--map-root-user"]), ...command, ...args];
    return timed(words, folder, environment);
  };

  const installed = await call(manager.install);
  const megabytes = await size(folder);
  const version = await call([...manager.exec, "kvsplice", "--version"]);
  const answered = await ask(manager, folder, call);
  console.log(
    `\n${manager.name} (${(await call(["--version"])).output.trim()}), Node ${(await timed([node, "--version"], folder, environment)).output.trim()}`,
  );
  console.log(`  install          ${spelled(installed)}, ${megabytes} MiB`);
  for (const line of installed.output.split("\n")) if (!SILENT.test(line)) console.log(`    | ${line}`);
  console.log(`  --version        ${version.output.trim().replaceAll("\n", "\n    | ")}`);
  console.log(`  a question       ${answered}`);
  if (process.platform !== "linux") return;

  await rm(join(folder, "node_modules"), { recursive: true, force: true });
  const again = await call(manager.offline, false);
  console.log(`  without network  ${spelled(again)}`);
  if (again.ok) console.log(`  a question       ${await ask(manager, folder, (args) => call(args, false))}`);
}

/** Installs the manager, and Node if another version is needed, into separate folders. */
async function fetchManager({ from, program, node }: Manager, folder: string): Promise<{ command: string[]; node: string }> {
  const platform = `${process.platform === "win32" ? "win" : process.platform}-${process.arch}`;
  const packages = [`manager@npm:${from}`, ...(node === undefined ? [] : [`node-binary@npm:node-${platform}@${node}`])];
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "package.json"), '{ "private": true }\n');
  const { ok, output } = await timed(["npm", "install", "--silent", ...packages], folder, { PATH: process.env.PATH!, HOME: folder });
  if (!ok) throw new Error(`${packages.join(" and ")} could not be installed:\n${output}`);
  const binary = node === undefined ? process.execPath : join(folder, "node_modules", "node-binary", "bin", "node");
  const path = join(folder, "node_modules", "manager", program);
  const script = /\.c?js$/.test(program);
  return { command: script ? [binary, path] : [path], node: binary };
}

/** @returns the answer, or what went wrong */
async function ask(manager: Manager, folder: string, call: Call): Promise<string> {
  await rm(join(folder, "corpus.kv"), { recursive: true, force: true });
  await writeFile(join(folder, "harbour.txt"), DOCUMENT);
  const precomputed = await call([...manager.exec, "kvsplice", "precompute", "harbour.txt", "--store", "corpus.kv"]);
  if (!precomputed.ok) return `FAILED: ${precomputed.output.trim()}`;
  const { ok, stdout, output } = await call([...manager.exec, "kvsplice", "ask", QUESTION, "--store", "corpus.kv", "--json"]);
  return ok ? (JSON.parse(stdout) as { answer: string }).answer : `FAILED: ${output.trim()}`;
}

function spelled({ ok, seconds, output }: Result): string {
  return ok ? `${seconds.toFixed(0)} s` : `FAILED\n${output.trim().split("\n").slice(-12).join("\n")}`;
}

/** Size of the folder's files, in MiB. */
async function size(folder: string): Promise<string> {
  const { output } = await timed(["du", "-sm", "--apparent-size", folder], folder, { PATH: process.env.PATH! });
  return output.split("\t")[0]!;
}

function timed([program, ...args]: readonly string[], cwd: string, env: Record<string, string>): Promise<Result> {
  const begun = performance.now();
  return new Promise((resolve) => {
    execFile(program!, args, { cwd, env, maxBuffer: 2 ** 26 }, (error, stdout, stderr) => {
      resolve({ ok: error === null, stdout, output: stdout + stderr, seconds: (performance.now() - begun) / 1000 });
    });
  });
}
