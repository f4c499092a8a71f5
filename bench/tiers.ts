/**
 * The store's tiers one by one, each on this machine: how long it takes to write and read a block of 130 tokens of the bundled
 * model, one after the other and ten at once. Then what ten documents cost an answer if the shared tier below memory is slow or
 * unreachable, refuses, returns wrong data or stalls: the time until the store has them or reports them missing, and the same
 * for ten others right afterwards.
 *
 *     npx tsx bench/tiers.ts [--blocks 40] [--precision int8] [--only speed|faults]
 *
 * Redis and moto (a bucket's server in Python, `pip install "moto[server]"`) are started by this program on loopback, and left
 * out if they are not installed.
 */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type Block, encodeSafetensors, openBlockStore, PRECISIONS, type StoreConfig } from "../engine/index.js";
import { arraysOf, emptyBlock } from "../engine/kv/block.js";
import { BUCKET, hasMoto, startMoto } from "../test/support/moto-server.js";
import { freePort, hasRedis, startRedis } from "../test/support/redis-server.js";

const { values } = parseArgs({
  options: { blocks: { type: "string", default: "40" }, precision: { type: "string", default: "int8" }, only: { type: "string" } },
});
const precision = PRECISIONS.find((each) => each === values.precision);
if (precision === undefined) throw new Error(`--precision is one of ${PRECISIONS.join(", ")}.`);

const TOKENS = 130;
const LAYERS = Array.from({ length: 30 }, () => ({ heads: 3, headSize: 64 }));
const AT_ONCE = 10;
const KEYS = Array.from({ length: Math.max(2 * AT_ONCE, Number(values.blocks)) }, (_, i) =>
  createHash("sha256").update(`${i}`).digest("hex"),
);

process.env["AWS_ACCESS_KEY_ID"] ??= "test";
process.env["AWS_SECRET_ACCESS_KEY"] ??= "test";

const block: Block = emptyBlock(LAYERS, TOKENS, precision);
for (const array of arraysOf(block)) for (let i = 0; i < array.length; i++) array[i] = (i * 2_654_435_761) % 127;
const MIB = Buffer.concat(encodeSafetensors(KEYS[0]!, block)).length / 2 ** 20;

const quiet = { onTrouble: () => undefined, onDamage: () => undefined };
async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

async function speed(name: string, config: StoreConfig): Promise<void> {
  const [writing, reading] = [openBlockStore(config), config.memory ? undefined : openBlockStore(config)];
  const write_ms = await timed(async () => {
    for (const key of KEYS) await writing.put(key, block);
    await writing.flush();
  });
  const from = reading ?? writing;
  await from.get(KEYS[0]!); // the connection, the map of the file
  const one_ms = await timed(async () => {
    for (const key of KEYS) if (!(await from.get(key))) throw new Error(`${name} lost a block.`);
  });
  const ten_ms = await timed(async () => {
    for (let i = 0; i < KEYS.length; i += AT_ONCE) await Promise.all(KEYS.slice(i, i + AT_ONCE).map((key) => from.get(key)));
  });
  await writing.close();
  await reading?.close();
  const cells = [write_ms, one_ms, ten_ms].flatMap((ms) => [
    (ms / KEYS.length).toPrecision(2),
    ((1000 * KEYS.length * MIB) / ms).toPrecision(2),
  ]);
  console.log(`| ${name} | ${cells.map((cell) => Number(cell).toLocaleString("en")).join(" | ")} |`);
}

async function speeds(): Promise<void> {
  console.log(`\n${KEYS.length} blocks of ${TOKENS} tokens in ${precision}, ${MIB.toFixed(2)} MiB each\n`);
  console.log(
    "| tier | write, ms a block | MiB/s | read, ms a block | MiB/s | ten at once, ms a block | MiB/s |\n|---|---|---|---|---|---|---|",
  );
  const dir = mkdtempSync(join(tmpdir(), "kvsplice-tiers-"));
  await speed("memory", { memory: { budget: 2 ** 31 } });
  await speed("disk", { disk: { path: dir } });
  rmSync(dir, { recursive: true, force: true });
  if (hasRedis) {
    const redis = await startRedis();
    await speed("Redis", { redis: { url: redis.url, prefix: "kvsplice:" } });
    await redis.stop();
  }
  if (hasMoto) {
    const s3 = await startMoto();
    await speed("bucket (moto)", { objects: { url: `s3://${BUCKET}/speed`, endpoint: s3.url } });
    await s3.stop();
  }
}

/** How long ten documents and ten others take, and the number of requests to the server. */
async function waits(name: string, config: StoreConfig, asked: () => number | string): Promise<void> {
  const store = openBlockStore({ memory: { budget: 2 ** 30 }, ...config }, quiet);
  const [first, second] = [KEYS.slice(0, AT_ONCE), KEYS.slice(AT_ONCE, 2 * AT_ONCE)];
  let found = 0;
  const ask = async (keys: readonly string[]) => (found = (await Promise.all(keys.map((key) => store.get(key)))).filter(Boolean).length);
  const first_ms = await timed(() => ask(first));
  const had = found;
  const second_ms = await timed(() => ask(second));
  console.log(`| ${name} | ${first_ms.toFixed(0)} | ${had} | ${second_ms.toFixed(0)} | ${found} | ${asked()} |`);
  await store.close();
}

type Answering = (response: ServerResponse, file: Buffer) => unknown;
const after =
  (ms: number, answer: Answering): Answering =>
  (response, file) =>
    setTimeout(() => answer(response, file), ms);
const sound: Answering = (response, file) => response.end(file);
const another = Buffer.concat(encodeSafetensors("f".repeat(64), block));
const BUCKETS: Record<string, Answering> = {
  sound,
  "slow: each answer 300 ms later": after(300, sound),
  "slow: each answer 1.5 s later": after(1500, sound),
  "fails (503)": (response) => response.writeHead(503).end(),
  "refuses (403)": (response) => response.writeHead(403).end(),
  "lies: another block": (response) => response.end(another),
  "lies: half a block": (response, file) => response.end(file.subarray(0, file.length >> 1)),
  "stalls before it answers": () => undefined,
  "stalls within a block": (response, file) => response.writeHead(200, { "content-length": file.length }).write(file.subarray(0, 1000)),
};

async function faults(): Promise<void> {
  console.log("\n| shared tier | ten documents, ms | found | ten others, ms | found | requests |\n|---|---|---|---|---|---|");
  const objects = (endpoint: string) => ({ objects: { url: `s3://${BUCKET}/faults`, endpoint } });
  for (const [name, answer] of Object.entries(BUCKETS)) {
    let requests = 0;
    const server = createServer((request, response) => {
      if (request.method !== "GET") return void response.writeHead(204).end();
      requests++;
      const key = request.url!.split("/").at(-1)!;
      answer(response, Buffer.concat(encodeSafetensors(key, block)));
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    await waits(`bucket, ${name}`, objects(`http://127.0.0.1:${(server.address() as AddressInfo).port}`), () => requests);
    server.closeAllConnections();
    server.close();
  }
  await waits("bucket, not there", objects(`http://127.0.0.1:${await freePort()}`), () => "");
  if (!hasRedis) return;
  for (const [name, harm] of [["sound"], ["stopped (SIGSTOP)", "SIGSTOP"], ["killed", "SIGKILL"]] as const) {
    const redis = await startRedis();
    const config = { redis: { url: redis.url, prefix: "kvsplice:" } };
    const filling = openBlockStore(config);
    for (const key of KEYS.slice(0, 2 * AT_ONCE)) await filling.put(key, block);
    await filling.close();
    if (harm) redis.process.kill(harm);
    await waits(`Redis, ${name}`, config, () => "");
    await redis.stop();
  }
}

console.log(`${cpus()[0]?.model}, ${cpus().length} cores, Node ${process.version}`);
if (values.only !== "faults") await speeds();
if (values.only !== "speed") await faults();
