import type { Command } from "commander";
import pc from "picocolors";
import { openBlockStore as openTiers, readStoreConfig, type TieredStore } from "../engine/index.js";

export type StoreOptions = {
  readonly storeConfig?: string;
  readonly memory?: string;
  readonly diskBudget?: string;
  readonly redis?: string;
  readonly redisBudget?: string;
  readonly objects?: string;
};

/** Options of every command that reads or fills a store (docs/store.md). */
export function withStoreOptions(command: Command): Command {
  return command
    .option("--memory <size>", "maximum memory for blocks, such as 2GB (default: 512MB)")
    .option("--disk-budget <size>", "maximum disk space for blocks (default: unlimited); 0 stores none on disk")
    .option("--redis <url>", "share blocks with other machines through this Redis server")
    .option("--redis-budget <size>", "maximum memory for blocks on the Redis server (default: unlimited)")
    .option("--objects <url>", "also store blocks in an S3 bucket, such as s3://bucket/prefix (credentials: docs/store.md)")
    .option("--store-config <file>", "JSON file with these settings (docs/store.md)");
}

/** Opens the tiers named by options, environment and configuration. Without a folder or any tier, only memory. */
export function openConfiguredStore(
  folder: string | undefined,
  options: StoreOptions = {},
  warn: (message: string) => void = printWarning,
): TieredStore {
  const { storeConfig: config, ...settings } = options;
  const { memory, diskBudget, redis, redisBudget, objects } = settings;
  return openTiers(readStoreConfig({ config, memory, diskBudget, redis, redisBudget, objects, folder }), {
    onDamage: (key, tier) => warn(`block ${key.slice(0, 12)} (${tier}) is damaged; it will be encoded again.`),
    onTrouble: warn,
  });
}

function printWarning(message: string): void {
  process.stderr.write(`${pc.yellow("warning:")} ${message}\n`);
}
