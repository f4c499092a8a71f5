import { Option } from "commander";
import { readStoreConfig } from "../engine/index.js";
import { KvspliceError } from "../plan/index.js";
import type { StoreOptions } from "./store.js";

/** The queue between `precompute` and `worker`. Its URL may contain a password, so the environment can set it. */
export function queueOption(description: string): Option {
  return new Option("--queue <url>", `${description}, such as redis://host:6379`).env("KVSPLICE_QUEUE");
}

/** The options with the queue's Redis as the shared tier, unless options, environment or file already name one. */
export function withSharedTier<Options extends StoreOptions & { readonly queue: string }>(options: Options): Options {
  const { queue } = options;
  if (!/^rediss?:\/\//.test(queue) || !URL.canParse(queue)) {
    throw new KvspliceError("bad_argument", `--queue is not a Redis URL. Give one like redis://host:6379 (rediss:// for TLS).`);
  }
  const { redis } = readStoreConfig({ config: options.storeConfig, redis: options.redis });
  return redis === undefined ? { ...options, redis: options.queue } : options;
}
