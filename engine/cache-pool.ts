import type { Cache } from "./backend/backend.js";

/** What a cache begins with: spliced pieces, one after the other. */
type Spliced = { readonly id: string; readonly end: number };

/**
 * The KV caches of a model. A returned cache keeps its rows until it is taken again, so a prompt that begins with the same
 * pieces at the same positions finds them already spliced.
 */
export class CachePool {
  /** The one unused longest comes first. */
  private readonly idle: Cache[] = [];
  private readonly spliced = new Map<Cache, Spliced[]>();

  /** @param most caches to keep while they are unused */
  constructor(
    private readonly create: () => Cache,
    private readonly most: number,
  ) {}

  /**
   * A cache with room for `tokens` rows. It begins with as many of the pieces, known by their ids, as any idle cache does;
   * the caller splices the others and reports each with `splicedPiece`. Returns where each piece it already has ends.
   *
   * Among caches that begin alike it takes the smallest with enough room, or else the largest: the system takes longer to
   * give a cache its memory than a splice takes to fill it.
   *
   * @throws KvspliceError `too_long` if there is not enough memory for the rows
   */
  async take(tokens: number, pieces: readonly string[] = []): Promise<{ readonly cache: Cache; readonly pieces: readonly number[] }> {
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
    this.spliced.set(cache, has);
    try {
      await cache.reserve(tokens);
    } catch (error) {
      this.giveBack(cache);
      throw error;
    }
    return { cache, pieces: has.map(({ end }) => end) };
  }

  /** Records that a piece follows those the cache begins with, up to row `end`. */
  splicedPiece(cache: Cache, id: string, end: number = cache.length): void {
    this.spliced.get(cache)!.push({ id, end });
  }

  /** The cache's first rows stay as they are until it is taken again. */
  giveBack(cache: Cache): void {
    if (this.idle.length < this.most) this.idle.push(cache);
    else this.discard(cache);
  }

  /** Frees a cache instead of returning it to the pool. */
  discard(cache: Cache): void {
    this.spliced.delete(cache);
    cache.free();
  }
}
