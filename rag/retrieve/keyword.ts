import { termsOf, termsOfQuestion } from "./terms.js";

export type KeywordEntry = { readonly id: number; readonly title: string; readonly text: string };

/** A chunk that contains words of the question. */
export type KeywordHit = {
  readonly id: number;
  /** BM25, as a share of the highest score that any chunk could have for the question: 0 to 1. */
  readonly score: number;
  /** Share of the question's words that it contains, each weighted by its rarity (idf): 0 to 1. */
  readonly coverage: number;
};

/** What the words of a question found. */
export type Worded = {
  /** Best first. */
  readonly hits: readonly KeywordHit[];
  /** Score of any chunk, whether or not it is among the hits. */
  of(id: number): KeywordHit;
};

/** Result of `toJSON`: each term has the places (in `ids`) of its chunks, and how often it occurs in each. */
export type KeywordJson = {
  readonly format: number;
  readonly ids: readonly number[];
  readonly lengths: readonly number[];
  readonly terms: readonly (readonly [term: string, places: readonly number[], counts: readonly number[]])[];
};

type Postings = { places: number[]; counts: number[] };

/** Incremented when terms are made or stored differently, so that existing indexes are rebuilt. */
const FORMAT = 2;

/** Saturation and length normalisation of BM25, with Lucene's values. */
const K = 1.2;
const B = 0.75;

/** A word in the title counts as several in the text (BM25F; Robertson, Zaragoza and Taylor 2004). */
const TITLE_WEIGHT = 2;

/** A place whose chunk was removed. */
const REMOVED = -1;

/**
 * Ranks chunks by the words that they share with the question (BM25; Robertson et al. 1994). All of the question's words are
 * looked up: one that is in nearly every chunk has almost no weight by its idf, in any language, so no list of stop words is
 * needed. A search over 13,700 chunks takes about a millisecond (`npx tsx bench/finding.ts`).
 */
export class KeywordIndex {
  private readonly terms = new Map<string, Postings>();
  /** Chunks by place. */
  private readonly idAt: number[] = [];
  private readonly lengths: number[] = [];
  private readonly placeOf = new Map<number, number>();
  private totalLength = 0;
  /** Whether postings refer to places of removed chunks. */
  private isDirty = false;

  /** @param json from `toJSON`. @throws Error for anything else */
  static fromJSON({ format, ids, lengths, terms }: KeywordJson): KeywordIndex {
    if (format !== FORMAT) throw new Error(`A keyword index of format ${format}`);
    const index = new KeywordIndex();
    ids.forEach((id, place) => index.place(id, lengths[place]!));
    for (const [term, places, counts] of terms) index.terms.set(term, { places: [...places], counts: [...counts] });
    return index;
  }

  toJSON(): KeywordJson {
    const live = this.idAt.flatMap((id, place) => (id === REMOVED ? [] : [place]));
    const placeAfter = new Map(live.map((place, after) => [place, after]));
    this.sweep();
    const { idAt, lengths } = this;
    return {
      format: FORMAT,
      ids: live.map((place) => idAt[place]!),
      lengths: live.map((place) => lengths[place]!),
      terms: Array.from(this.terms, ([term, { places, counts }]) => [term, places.map((place) => placeAfter.get(place)!), counts] as const),
    };
  }

  ids(): Iterable<number> {
    return this.placeOf.keys();
  }

  add({ id, title, text }: KeywordEntry): void {
    if (this.placeOf.has(id)) return;
    const counts = new Map<string, number>();
    let length = 0;
    for (const [terms, weight] of [
      [termsOf(title), TITLE_WEIGHT],
      [termsOf(text), 1],
    ] as const) {
      for (const term of terms) counts.set(term, (counts.get(term) ?? 0) + weight);
      length += terms.length * weight;
    }
    const place = this.place(id, length);
    for (const [term, count] of counts) {
      let postings = this.terms.get(term);
      if (postings === undefined) this.terms.set(term, (postings = { places: [], counts: [] }));
      postings.places.push(place);
      postings.counts.push(count);
    }
  }

  remove(id: number): void {
    const place = this.placeOf.get(id);
    if (place === undefined) return;
    this.placeOf.delete(id);
    this.totalLength -= this.lengths[place]!;
    this.idAt[place] = REMOVED;
    this.isDirty = true;
  }

  /** What the words of a question find, only among chunks that `accepts` accepts, if given. */
  search(question: string, count: number, accepts: (id: number) => boolean = () => true): Worded {
    this.sweep();
    const [chunks, averageLength] = [this.placeOf.size, this.totalLength / this.placeOf.size];
    const scores = new Float64Array(this.idAt.length);
    const covered = new Float64Array(this.idAt.length);
    let total = 0;
    for (const term of new Set(termsOfQuestion(question))) {
      const { places, counts } = this.terms.get(term) ?? NOWHERE;
      const idf = Math.log(1 + (chunks - places.length + 0.5) / (places.length + 0.5));
      total += idf;
      places.forEach((place, index) => {
        const count = counts[index]!;
        scores[place]! += (idf * count) / (count + K * (1 - B + (B * this.lengths[place]!) / averageLength));
        covered[place]! += idf;
      });
    }
    const best = new Best(count);
    scores.forEach((score, place) => {
      if (score > best.least && accepts(this.idAt[place]!)) best.add(score, place);
    });
    const hitAt = (place: number): KeywordHit => ({
      id: this.idAt[place]!,
      score: scores[place]! / total,
      coverage: covered[place]! / total,
    });
    return {
      hits: best.places.map(hitAt),
      of: (id) => {
        const place = this.placeOf.get(id);
        return place === undefined || !(scores[place]! > 0) ? { id, score: 0, coverage: 0 } : hitAt(place);
      },
    };
  }

  private place(id: number, length: number): number {
    const place = this.idAt.push(id) - 1;
    this.lengths.push(length);
    this.placeOf.set(id, place);
    this.totalLength += length;
    return place;
  }

  /** Removes deleted chunks from all postings, many at a time. */
  private sweep(): void {
    if (!this.isDirty) return;
    for (const [term, { places, counts }] of this.terms) {
      const live = places.flatMap((place, index) => (this.idAt[place] === REMOVED ? [] : [index]));
      if (live.length === places.length) continue;
      if (live.length === 0) this.terms.delete(term);
      else this.terms.set(term, { places: live.map((index) => places[index]!), counts: live.map((index) => counts[index]!) });
    }
    this.isDirty = false;
  }
}

const NOWHERE: Postings = { places: [], counts: [] };

/** The places of the highest scores, best first; among equal ones, the earliest first. */
class Best {
  readonly places: number[] = [];
  private readonly scores: number[] = [];

  constructor(private readonly count: number) {}

  /** A score must exceed this to be among them. */
  get least(): number {
    return this.places.length < this.count ? 0 : this.scores.at(-1)!;
  }

  add(score: number, place: number): void {
    let at = this.scores.length;
    while (at > 0 && this.scores[at - 1]! < score) at--;
    this.scores.splice(at, 0, score);
    this.places.splice(at, 0, place);
    if (this.places.length > this.count) {
      this.scores.pop();
      this.places.pop();
    }
  }
}
