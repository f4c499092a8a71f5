import { clearScreenDown, cursorTo } from "node:readline";
import { Command, Option } from "commander";
import pc from "picocolors";
import { KvspliceError } from "../plan/index.js";
import { withInterrupt } from "./interrupt.js";
import { positiveNumber } from "./positive-number.js";
import { type NoReading, readServers, type ServerReading } from "./server-reading.js";

type Options = { readonly interval: number; readonly apiKey?: string; readonly once?: boolean; readonly json?: boolean };

/** Where `kvsplice serve` listens by default. */
const HERE = "http://127.0.0.1:8585";

const COLUMNS: readonly (readonly [title: string, text: (server: ServerReading) => string])[] = [
  ["status", ({ status }) => status],
  ["weight", ({ weight }) => `${weight} %`],
  ["running", ({ running }) => String(running)],
  ["queued", ({ queued }) => String(queued)],
  ["waiting", ({ waiting, queue }) => `${waiting}/${queue}`],
  ["first token", ({ first_token_ms }) => (first_token_ms === null ? NOTHING : `${Math.round(first_token_ms)} ms`)],
  ["tokens/s", ({ tokens_per_s }) => (tokens_per_s === null ? NOTHING : tokens_per_s.toFixed(1))],
  ["cached", ({ cached }) => percent(cached)],
  ["memory", ({ memory }) => percent(memory)],
  ["goodput", ({ goodput }) => percent(goodput)],
  ["workers", ({ workers }) => String(workers)],
  ["jobs", ({ jobs }) => String(jobs)],
];

const NOTHING = "-";

export function topCommand(): Command {
  return new Command("top")
    .description("monitor servers: running and waiting answers, cache hits, and answers in time")
    .argument("[addresses...]", `addresses of servers (default: ${HERE})`)
    .option("--interval <s>", "seconds between readings", positiveNumber, 2)
    .addOption(new Option("--api-key <key>", "the servers' key, if they need one").env("KVSPLICE_API_KEY"))
    .option("--once", "read once and exit")
    .option("--json", "print one JSON object per reading")
    .addHelpText(
      "after",
      `
running, queued   answers being computed, and answers waiting to join them
waiting           answers without a token yet, and the limit set by --max-queue
cached            share of prompt tokens whose KV was in the store
memory            share of the blocks read that were in memory
goodput           share of answers within --slo-first-token and --slo-token
workers, jobs     with --encode-queue: workers, and blocks waiting for one; servers with the same queue show the same

First token, cached, memory and goodput cover the time since the last reading, or, in the first, since the server's
start. A server that does not answer is reported and tried again; with --once the exit code is then 1.

Examples:
  $ kvsplice top
  $ kvsplice top http://10.0.0.5:8585 http://10.0.0.6:8585 --interval 5
  $ KVSPLICE_API_KEY=secret kvsplice top http://10.0.0.5:8585 --once
  $ kvsplice top --once --json | jq '.servers[] | {address, queued, goodput}'`,
    )
    .action(top);
}

async function top(addresses: readonly string[], { interval, apiKey, once, json }: Options): Promise<void> {
  await withInterrupt(async (signal) => {
    for await (const servers of readServers(addresses.length > 0 ? addresses : [HERE], { apiKey, interval_ms: interval * 1000, signal })) {
      if (json) process.stdout.write(`${JSON.stringify({ at: new Date().toISOString(), servers })}\n`);
      else draw(tableOf(servers), { over: process.stdout.isTTY && !once });
      if (once) return mustHaveAnswered(servers);
    }
  });
}

/** @param over what a terminal showed before */
function draw(lines: readonly string[], { over }: { readonly over: boolean }): void {
  if (over) {
    cursorTo(process.stdout, 0, 0);
    clearScreenDown(process.stdout);
  }
  process.stdout.write(`${lines.join("\n")}\n`);
}

/** A header line, then one line per server. */
function tableOf(servers: readonly (ServerReading | NoReading)[]): readonly string[] {
  const titles = ["server", ...COLUMNS.map(([title]) => title)];
  const rows = servers.map((server) => (isRead(server) ? [server.address, ...COLUMNS.map(([, text]) => text(server))] : undefined));
  const addressWidth = Math.max(...["server", ...servers.map(({ address }) => address)].map(({ length }) => length));
  const widths = titles.map((title, column) =>
    column === 0 ? addressWidth : Math.max(title.length, ...rows.map((row) => row?.[column]?.length ?? 0)),
  );
  const line = (cells: readonly string[]) =>
    cells.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))).join("  ");
  const lines = servers.map((server, index) =>
    isRead(server) ? line(rows[index]!) : `${server.address.padEnd(addressWidth)}  ${pc.red(server.error)}`,
  );
  return [pc.dim(line(titles)), ...lines];
}

function mustHaveAnswered(servers: readonly (ServerReading | NoReading)[]): void {
  const gone = servers.flatMap((server) => (isRead(server) ? [] : [`${server.address} ${server.error}`]));
  if (gone.length > 0) throw new KvspliceError("unreachable", gone.join("\n"));
}

function isRead(server: ServerReading | NoReading): server is ServerReading {
  return "status" in server;
}

function percent(share: number | null): string {
  return share === null ? NOTHING : `${Math.round(share * 100)} %`;
}
