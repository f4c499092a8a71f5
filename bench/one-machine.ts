/**
 * What a plain `kvsplice serve` costs in this checkout and in others, such as one from before a change: seconds from its start
 * to its first answer to a probe and to a question over documents, memory at that time, and the installed size. No option is
 * given except `--store`. The checkouts take turns, each with its own store of the same article.
 *
 *     git worktree add /tmp/before COMMIT && (cd /tmp/before && npm ci && npm run build)
 *     npm run build && npx tsx bench/one-machine.ts --with /tmp/before [--runs 7]
 *
 * Linux only: memory is read from /proc. The installed size is that of the package and of its non-development packages in
 * package-lock.json, as they are in node_modules.
 */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { quantile } from "./serving.js";

const HERE = resolve(import.meta.dirname, "..");
const { values } = parseArgs({
  options: { with: { type: "string", multiple: true, default: [] }, runs: { type: "string", default: "7" } },
});

type Started = { readonly ready_ms: number; readonly answer_ms: number; readonly rss: number; readonly own: number };

const environment = (home: string) => ({ ...process.env, KVSPLICE_CACHE_DIR: join(home, "cache") });

function precompute(checkout: string, home: string): void {
  const article = join(HERE, "examples/corpus/robert-falcon-scott.md");
  execFileSync(process.execPath, [join(checkout, "dist/cli/main.js"), "precompute", article, "--store", join(home, "store")], {
    env: environment(home),
    stdio: "ignore",
  });
}

async function start(checkout: string, home: string): Promise<Started> {
  const began = performance.now();
  const args = [join(checkout, "dist/cli/main.js"), "serve", "--port", "0", "--store", join(home, "store")];
  const child = spawn(process.execPath, args, { env: environment(home), stdio: ["ignore", "pipe", "ignore"] });
  try {
    let out = "";
    while (!/http:\/\/\S+\n/.test(out)) out += String((await Promise.race([once(child.stdout, "data"), once(child, "exit")]))[0]);
    const url = /http:\/\/\S+/.exec(out)![0];
    await fetch(`${url}/healthz`);
    const ready_ms = performance.now() - began;
    const asked = performance.now();
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        model: "kvsplice-135m",
        corpus: true,
        messages: [{ role: "user", content: "Who was Scott?" }],
        max_tokens: 8,
      }),
    });
    if (!response.ok) throw new Error(await response.text());
    await response.text();
    const status = readFileSync(`/proc/${child.pid}/status`, "utf8");
    const [rss, own] = ["VmRSS", "RssAnon"].map((name) => Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)![1]) / 1024) as [
      number,
      number,
    ];
    return { ready_ms, answer_ms: performance.now() - asked, rss, own };
  } finally {
    child.kill("SIGTERM");
    if (child.exitCode === null) await once(child, "exit");
  }
}

/** Bytes of the files below. */
function sizeOf(path: string): number {
  const stat = lstatSync(path);
  if (!stat.isDirectory()) return stat.size;
  return readdirSync(path).reduce((sum, name) => sum + (name === "node_modules" ? 0 : sizeOf(join(path, name))), 0);
}

type Lock = {
  readonly packages: Readonly<Record<string, { readonly dev?: boolean; readonly devOptional?: boolean; readonly link?: boolean }>>;
};

/** Of what a user's installation has. */
function installed(checkout: string): { readonly packages: number; readonly dependencies: number; readonly own: number } {
  const { packages } = JSON.parse(readFileSync(join(checkout, "package-lock.json"), "utf8")) as Lock;
  const used = Object.entries(packages)
    .filter(([path, { dev, devOptional, link }]) => path.startsWith("node_modules/") && !dev && !devOptional && !link)
    .map(([path]) => join(checkout, path))
    .filter((path) => existsSync(path));
  return {
    packages: used.length,
    dependencies: used.reduce((sum, path) => sum + sizeOf(path), 0),
    own: sizeOf(join(checkout, "dist")),
  };
}

const checkouts = [...values.with.map((path) => resolve(path)), HERE];
const homes = checkouts.map(() => mkdtempSync(join(tmpdir(), "kvsplice-one-machine-")));
try {
  for (const [i, checkout] of checkouts.entries()) precompute(checkout, homes[i]!);
  const started: Started[][] = checkouts.map(() => []);
  for (let run = -1; run < Number(values.runs); run++) {
    for (const [i, checkout] of checkouts.entries()) {
      const one = await start(checkout, homes[i]!);
      if (run >= 0) started[i]!.push(one); // the first fills caches
    }
  }
  const mib = (bytes: number) => (bytes / 2 ** 20).toFixed(1);
  console.log(`${cpus()[0]?.model}, ${cpus().length} cores, Node ${process.version}; medians of ${values.runs}\n`);
  console.log("| checkout | ready, ms | first answer after that, ms | memory, MiB | private | packages | MiB installed | `dist`, MiB |");
  console.log("|---|---|---|---|---|---|---|---|");
  for (const [i, checkout] of checkouts.entries()) {
    const of = (name: keyof Started) =>
      quantile(
        started[i]!.map((one) => one[name]),
        0.5,
      ).toFixed(0);
    const { packages, dependencies, own } = installed(checkout);
    const commit = execFileSync("git", ["-C", checkout, "log", "-1", "--format=%h %cs"], { encoding: "utf8" }).trim();
    console.log(
      `| ${commit} | ${of("ready_ms")} | ${of("answer_ms")} | ${of("rss")} | ${of("own")} | ${packages} | ${mib(dependencies)} | ${mib(own)} |`,
    );
  }
} finally {
  for (const home of homes) rmSync(home, { recursive: true, force: true });
}
