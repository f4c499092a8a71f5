/**
 * A separate process that makes sure that a store has blocks: `CONFIG FIRST COUNT`. It prints the number of each block
 * that it encoded and put, once the put is acknowledged.
 */
import { storeBlock } from "../../../engine/fetch-blocks.js";
import { parseStoreConfig } from "../../../engine/store/config.js";
import { openBlockStore } from "../../../engine/store/tiers.js";
import { numberedEncoder, sourceOf } from "./numbered-blocks.js";

const [config, first, count] = process.argv.slice(2) as [string, string, string];
const store = openBlockStore(parseStoreConfig(JSON.parse(config)), { onTrouble: () => undefined });
const encoder = numberedEncoder();
process.stdout.write("begun\n");
for (let number = Number(first); number < Number(first) + Number(count); number++) {
  await storeBlock(encoder, sourceOf(number), { store, pinned: true });
  process.stdout.write(`${number}\n`);
}
await store.flush();
await store.close();
