/** What two neighbouring tokens become: the merged id, and its priority; lower ones go first. */
export type Merge = { readonly id: number; readonly priority: number };

const NONE = -1;
/** Pairs to cache; beyond that the cache is cleared. */
const MOST_PAIRS = 1 << 17;

/**
 * Merges neighbouring tokens, the pair with the lowest priority first, the leftmost of equal ones, until none is left:
 * a heap of pairs over a linked list, n log n in the number of tokens.
 */
export class Merger {
  /** Cache of looked-up pairs, with open addressing: left and right id, merged id or NONE. */
  private readonly pairs = new Int32Array(3 * 2 * MOST_PAIRS).fill(NONE);
  private readonly priorities = new Float64Array(2 * MOST_PAIRS);
  private known = 0;

  private next = new Int32Array(64);
  private previous = new Int32Array(64);
  private readonly heap = new PairHeap();

  /**
   * @param mergeOf two ids
   * @param lengthOf an id's text; the merged id's is the sum
   */
  constructor(
    private readonly mergeOf: (left: number, right: number) => Merge | undefined,
    private readonly lengthOf: (id: number) => number,
  ) {}

  /** Merges `ids` in place; what is left is at the front. Returns how many there are. */
  merge(ids: Int32Array, count: number): number {
    this.reserve(count);
    const { next, previous, heap } = this;
    for (let i = 0; i < count; i++) {
      next[i] = i + 1;
      previous[i] = i - 1;
    }
    heap.clear();
    for (let i = 0; i + 1 < count; i++) this.offer(ids, i, i + 1);

    while (heap.pop()) {
      const { left, right, merged } = heap;
      // A pair is outdated if one of its tokens has been merged since: it is gone, or longer than before.
      if (ids[left] === NONE || next[left] !== right || this.lengthOf(ids[left]!) + this.lengthOf(ids[right]!) !== this.lengthOf(merged))
        continue;
      ids[left] = merged;
      ids[right] = NONE;
      const after = next[right]!;
      next[left] = after;
      if (after < count) {
        previous[after] = left;
        this.offer(ids, left, after);
      }
      if (previous[left]! >= 0) this.offer(ids, previous[left]!, left);
    }
    let kept = 0;
    for (let i = 0; i < count; i = next[i]!) ids[kept++] = ids[i]!;
    return kept;
  }

  private offer(ids: Int32Array, left: number, right: number): void {
    const slot = this.slotOf(ids[left]!, ids[right]!);
    const merged = this.pairs[3 * slot + 2]!;
    if (merged !== NONE) this.heap.push(this.priorities[slot]!, left, right, merged);
  }

  private slotOf(left: number, right: number): number {
    const { pairs } = this;
    const mask = 2 * MOST_PAIRS - 1;
    let slot = ((Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b)) >>> 8) & mask;
    while (pairs[3 * slot] !== NONE) {
      if (pairs[3 * slot] === left && pairs[3 * slot + 1] === right) return slot;
      slot = (slot + 1) & mask;
    }
    if (this.known === MOST_PAIRS) {
      pairs.fill(NONE);
      this.known = 0;
      return this.slotOf(left, right);
    }
    const merge = this.mergeOf(left, right);
    pairs[3 * slot] = left;
    pairs[3 * slot + 1] = right;
    pairs[3 * slot + 2] = merge?.id ?? NONE;
    this.priorities[slot] = merge?.priority ?? 0;
    this.known++;
    return slot;
  }

  private reserve(count: number): void {
    if (count <= this.next.length) return;
    this.next = new Int32Array(2 * count);
    this.previous = new Int32Array(2 * count);
  }
}

/** A binary heap of pairs by priority and place; `pop` puts the first one into the fields. */
class PairHeap {
  left = 0;
  right = 0;
  merged = 0;
  private size = 0;
  private priorities = new Float64Array(64);
  /** Left, right and merged of each. */
  private values = new Int32Array(3 * 64);

  clear(): void {
    this.size = 0;
  }

  push(priority: number, left: number, right: number, merged: number): void {
    if (this.size === this.priorities.length) this.grow();
    const { priorities } = this;
    let at = this.size++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (priorities[parent]! < priority || (priorities[parent] === priority && this.values[3 * parent]! <= left)) break;
      this.move(parent, at);
      at = parent;
    }
    this.set(at, priority, left, right, merged);
  }

  pop(): boolean {
    if (this.size === 0) return false;
    const { priorities, values } = this;
    [this.left, this.right, this.merged] = [values[0]!, values[1]!, values[2]!];
    const last = --this.size;
    const [priority, left, right, merged] = [priorities[last]!, values[3 * last]!, values[3 * last + 1]!, values[3 * last + 2]!];
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= last) break;
      if (child + 1 < last && this.precedes(child + 1, priorities[child]!, values[3 * child]!)) child++;
      if (!this.precedes(child, priority, left)) break;
      this.move(child, at);
      at = child;
    }
    if (last > 0) this.set(at, priority, left, right, merged);
    return true;
  }

  private precedes(at: number, priority: number, left: number): boolean {
    return this.priorities[at]! < priority || (this.priorities[at] === priority && this.values[3 * at]! < left);
  }

  private move(from: number, to: number): void {
    const { values } = this;
    this.set(to, this.priorities[from]!, values[3 * from]!, values[3 * from + 1]!, values[3 * from + 2]!);
  }

  private set(at: number, priority: number, left: number, right: number, merged: number): void {
    this.priorities[at] = priority;
    this.values[3 * at] = left;
    this.values[3 * at + 1] = right;
    this.values[3 * at + 2] = merged;
  }

  private grow(): void {
    const { priorities, values } = this;
    this.priorities = new Float64Array(2 * priorities.length);
    this.priorities.set(priorities);
    this.values = new Int32Array(2 * values.length);
    this.values.set(values);
  }
}
