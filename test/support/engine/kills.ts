import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { Redis } from "ioredis";
import { storeBlock } from "../../../engine/fetch-blocks.js";
import type { StoreConfig } from "../../../engine/store/config.js";
import type { StoredTier } from "../../../engine/store/store.js";
import { openBlockStore } from "../../../engine/store/tiers.js";
import { numberedEncoder, sourceOf } from "./numbered-blocks.js";

const ROOT = join(import.meta.dirname, "../../..");
const PROGRAM = join(import.meta.dirname, "putting-process.ts");
const BLOCKS_A_RUN = 160;

export type KillFigures = {
  readonly kills: number;
  /** Kills that happened while blocks were waiting for Redis. */
  readonly while_waiting: number;
  readonly acknowledged: number;
  /** How many of these were missing from a tier afterwards, or damaged. All must be 0. */
  readonly lost: number;
  readonly damaged: number;
  readonly lost_in_redis: number;
  readonly slowest_open_ms: number;
};

/** Removes the leases of killed processes, as time would. */
async function endLeases({ url, prefix }: NonNullable<StoreConfig["redis"]>): Promise<void> {
  const client = new Redis(url);
  const leases = await client.keys(`${prefix}lease:*`);
  if (leases.length > 0) await client.del(leases);
  client.disconnect();
}

/**
 * Kills a process that puts blocks into a store, again and again, after any number of blocks. Checks after each kill that
 * the store opens, verifies and contains every acknowledged block, and at the end that the next run completes it and
 * Redis has all of it.
 */
export async function killAgainAndAgain(
  config: StoreConfig,
  kills: number,
  onKill: (done: number) => void = () => undefined,
): Promise<KillFigures> {
  const encoder = numberedEncoder();
  const acknowledged = new Set<number>();
  let [lost, damaged, lost_in_redis, slowest_open_ms, while_waiting] = [0, 0, 0, 0, 0];
  const check = async (tier: StoredTier, number: number): Promise<boolean> => {
    const sound = await tier.verify(encoder.keyOf(sourceOf(number)));
    if (sound === false) damaged++;
    return sound === true;
  };
  for (let kill = 0; kill < kills; kill++) {
    const first = kill * (BLOCKS_A_RUN >> 2);
    const child = spawn(process.execPath, ["--import", "tsx", PROGRAM, JSON.stringify(config), String(first), String(BLOCKS_A_RUN)], {
      cwd: ROOT,
      stdio: ["ignore", "pipe", "inherit"],
    });
    let printed = "";
    const lines = 2 + Math.floor(Math.random() * (BLOCKS_A_RUN / 2)); // "begun", and at least one block
    child.stdout.on("data", (part) => {
      printed += part;
      if (printed.split("\n").length > lines) child.kill("SIGKILL");
    });
    await once(child, "close");
    const fresh = printed.split("\n").slice(1, -1).map(Number); // the last line may be cut
    for (const number of fresh) acknowledged.add(number);

    const start = performance.now();
    const store = openBlockStore({ disk: config.disk! });
    slowest_open_ms = Math.max(slowest_open_ms, performance.now() - start);
    const [disk] = store.tiers;
    for (const number of kill % 20 === 19 || kill === kills - 1 ? acknowledged : fresh) if (!(await check(disk!, number))) lost++;
    await store.close();
    const { DiskTier } = await import("../../../engine/store/disk.js");
    const tier = DiskTier.open({ path: config.disk!.path, onDamage: () => undefined });
    if (tier.pending().length > 0) while_waiting++;
    await tier.close();
    onKill(kill + 1);
  }
  if (config.redis) await endLeases(config.redis);
  const store = openBlockStore(config);
  const end = (kills - 1) * (BLOCKS_A_RUN >> 2) + BLOCKS_A_RUN;
  for (let number = 0; number < end; number++) await storeBlock(encoder, sourceOf(number), { store, pinned: true });
  await store.flush();
  const redis = store.tiers.find(({ name }) => name === "redis");
  for (let number = 0; redis && number < end; number++) if (!(await check(redis, number))) lost_in_redis++;
  await store.close();
  return {
    kills,
    while_waiting,
    acknowledged: acknowledged.size,
    lost,
    damaged,
    lost_in_redis,
    slowest_open_ms: Math.round(slowest_open_ms),
  };
}
