import { answer, memoryOf, moved } from "../../../runtime/thread.js";
import { arraysOf } from "../../kv/block.js";
import type { PassPart } from "../backend.js";
import { CpuBackend } from "../cpu/backend.js";
import type { KvCache } from "../cpu/cache.js";
import type { CacheNumber, ModelCalls, NumberedPart } from "./calls.js";

// The program of a model's thread: its sessions and caches are here.
let backend: CpuBackend;
const caches = new Map<CacheNumber, KvCache>();

const cacheOf = (number: CacheNumber): KvCache => caches.get(number)!;
const partOf = (part: NumberedPart): PassPart => ({ ...part, cache: cacheOf(part.cache) });

const tell = answer<ModelCalls>({
  async open(options) {
    backend = await CpuBackend.open({ ...options, onProgress: tell });
  },
  create(cache) {
    caches.set(cache, backend.createCache());
  },
  free(cache) {
    caches.delete(cache);
  },
  reserve({ cache, tokens }) {
    cacheOf(cache).reserve(tokens);
  },
  splice({ cache, block, positions, omit }) {
    cacheOf(cache).splice(block, positions, omit);
  },
  extract({ cache, from, to, precision }) {
    const block = cacheOf(cache).extract(from, to, precision);
    return moved(block, memoryOf(arraysOf(block)));
  },
  truncate({ cache, length }) {
    cacheOf(cache).truncate(length);
  },
  widen() {
    backend.widen();
  },
  async run(parts) {
    const logits = await backend.run(parts.map(partOf));
    return moved({ logits, slots: backend.slots }, memoryOf(logits.slice(0, 1))); // one buffer for all parts
  },
  async look({ part, asks }) {
    const looks = await backend.look(partOf(part), asks);
    return moved(looks, memoryOf([looks]));
  },
  close() {
    return backend.close();
  },
});
