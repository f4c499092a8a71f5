import type { Command } from "commander";
import pc from "picocolors";
import { openStore as openTiers, readStoreConfig, type TieredStore } from "../engine/index.js";

export type StoreOptions = {
  readonly storeConfig?: string;
  readonly memory?: string;
  readonly diskBudget?: string;
  readonly redis?: string;
  readonly redisBudget?: string;
};

/** Options of every command that reads or fills a store (docs/store.md). */
export function withStoreOptions(command: Command): Command {
  return command
    .option("--memory <size>", "most memory for blocks, such as 2GB (default: 512MB)")
    .option("--disk-budget <size>", "most disk for blocks (default: no bound); 0 keeps none on disk")
    .option("--redis <url>", "share blocks with other machines by this Redis server")
    .option("--redis-budget <size>", "most memory of the Redis server for blocks (default: no bound)")
    .option("--store-config <file>", "these settings as a JSON file (docs/store.md)");
}

/** The tiers that options, environment and configuration name; without a folder, and none named, memory alone. */
export function openStore(folder: string | undefined, options: StoreOptions = {}, warn: (message: string) => void = printWarning): TieredStore {
  const { storeConfig: config, ...settings } = options;
  const { memory, diskBudget, redis, redisBudget } = settings;
  return openTiers(readStoreConfig({ config, memory, diskBudget, redis, redisBudget, folder }), {
    onDamage: (key, tier) => warn(`block ${key.slice(0, 12)} (${tier}) does not verify; it is encoded again.`),
    onTrouble: warn,
  });
}

function printWarning(message: string): void {
  process.stderr.write(`${pc.yellow("warning:")} ${message}\n`);
}
