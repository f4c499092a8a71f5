import type { Cache } from "./backend/backend.js";

/** What a cache begins with: spliced pieces, one behind the other. */
type Spliced = { readonly id: string; readonly end: number };

/**
 * The KV caches of a model. One that is given back keeps its rows until it is taken again, so that a prompt which
 * begins with the same pieces at the same positions has them spliced already.
 */
export class CachePool {
  /** The longest unused first. */
  private readonly idle: Cache[] = [];
  private readonly spliced = new Map<Cache, Spliced[]>();

  /** @param most caches that are kept while nobody uses them */
  constructor(
    private readonly create: () => Cache,
    private readonly most: number,
  ) {}

  /**
   * A cache with room for `tokens` rows. It begins with as many of the pieces, known by their ids, as any idle one does;
   * the others are to be spliced, and told by `splicedPiece`. Returns where each of those that it has ends.
   *
   * Of caches that begin alike it is the smallest with the room, or else the largest: the system takes longer to give
   * a cache its memory than a splice takes to fill it.
   */
  take(tokens: number, pieces: readonly string[] = []): { readonly cache: Cache; readonly pieces: readonly number[] } {
    const shared = (cache: Cache) => {
      const own = this.spliced.get(cache) ?? [];
      const differs = own.findIndex(({ id }, i) => id !== pieces[i]);
      return differs < 0 ? own.length : differs;
    };
    const growth = (cache: Cache) => Math.max(0, tokens - cache.capacity);
    const better = (a: Cache, b: Cache) => shared(b) - shared(a) || growth(a) - growth(b) || a.capacity - b.capacity;
    const [cache = this.create()] = this.idle.toSorted(better);
    const place = this.idle.indexOf(cache);
    if (place >= 0) this.idle.splice(place, 1);
    const has = this.spliced.get(cache)?.slice(0, shared(cache)) ?? [];
    cache.truncate(has.at(-1)?.end ?? 0);
    cache.reserve(tokens);
    this.spliced.set(cache, has);
    return { cache, pieces: has.map(({ end }) => end) };
  }

  /** Notes that a piece was spliced behind those that the cache begins with. */
  splicedPiece(cache: Cache, id: string): void {
    this.spliced.get(cache)!.push({ id, end: cache.length });
  }

  /** The cache's first rows stay as they are until somebody takes it. */
  giveBack(cache: Cache): void {
    if (this.idle.length < this.most) this.idle.push(cache);
    else this.spliced.delete(cache);
  }
}
