/**
 * A process of its own that sees to it that a store holds blocks: `CONFIG FIRST COUNT`. It prints the number of each
 * one that it encoded and put, when the put is acknowledged.
 */
import { storeBlock } from "../../engine/fetch.js";
import { parseStoreConfig } from "../../engine/store/config.js";
import { openStore } from "../../engine/store/tiers.js";
import { numberedEncoder, sourceOf } from "./numbered-blocks.js";

const [config, first, count] = process.argv.slice(2) as [string, string, string];
const store = openStore(parseStoreConfig(JSON.parse(config)), { onTrouble: () => undefined });
const encoder = numberedEncoder();
process.stdout.write("begun\n");
for (let number = Number(first); number < Number(first) + Number(count); number++) {
  await storeBlock(encoder, sourceOf(number), { store, pinned: true });
  process.stdout.write(`${number}\n`);
}
await store.flush();
await store.close();
