import type { KvCache } from "./cache.js";

/** What a cache begins with: spliced pieces, one behind the other. */
type Spliced = { readonly id: string; readonly end: number };

/**
 * The KV caches of a model. One that is given back keeps its rows until it is taken again, so that a prompt which
 * begins with the same pieces at the same positions has them spliced already.
 */
export class CachePool {
  private readonly idle: KvCache[] = [];
  private readonly spliced = new Map<KvCache, Spliced[]>();

  /** @param most caches that are kept while nobody uses them */
  constructor(
    private readonly create: () => KvCache,
    private readonly most: number,
  ) {}

  /**
   * A cache that begins with as many of the pieces as any other does, by their ids; the others are to be spliced and
   * told by `splicedPiece`. Returns where each of those that it has ends.
   */
  take(pieces: readonly string[] = []): { readonly cache: KvCache; readonly pieces: readonly number[] } {
    const shared = (cache: KvCache) => {
      const own = this.spliced.get(cache) ?? [];
      const differs = own.findIndex(({ id }, i) => id !== pieces[i]);
      return differs < 0 ? own.length : differs;
    };
    const best = (caches: Iterable<KvCache>) => [...caches].reduce<KvCache | undefined>((a, b) => (a && shared(a) >= shared(b) ? a : b), undefined);
    const cache = best(this.idle) ?? this.create();
    const source = best(this.spliced.keys()) ?? cache;
    this.idle.splice(this.idle.indexOf(cache), this.idle.includes(cache) ? 1 : 0);
    const has = this.spliced.get(source)?.slice(0, shared(source)) ?? [];
    if (shared(source) > shared(cache)) cache.copy(source, has.at(-1)!.end);
    else cache.length = has.at(-1)?.end ?? 0;
    this.spliced.set(cache, has);
    return { cache, pieces: has.map(({ end }) => end) };
  }

  /** Notes that a piece was spliced behind those that the cache begins with. */
  splicedPiece(cache: KvCache, id: string): void {
    this.spliced.get(cache)!.push({ id, end: cache.length });
  }

  /** The cache's first rows stay as they are until somebody takes it. */
  giveBack(cache: KvCache): void {
    if (this.idle.length < this.most) this.idle.push(cache);
    else this.spliced.delete(cache);
  }
}
