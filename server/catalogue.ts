import { availableMemory } from "node:process";
import type { Totals } from "../rag/index.js";
import { ApiError } from "./error.js";
import type { Opened, Service } from "./service.js";

/** A model, with or without a corpus, that is opened on first use. */
export type Offer = {
  /** The model's name. */
  readonly model: string;
  /** The name that requests use for the corpus; empty if there is none. */
  readonly corpus: string;
  /** Memory needed to open it; 0 if its model is already open. */
  needs_bytes(): number;
  /** Files, chunks and tokens of its corpus, read without opening it. */
  totals(): Promise<Totals>;
  open(): Promise<Opened & { close(): Promise<void> }>;
};

/** The model and corpus that a request names. */
export type Address = { readonly model?: string | undefined; readonly corpus?: string | null | undefined };

/** An offer in use. It stays open until it is released. */
export type Lease = { readonly service: Service; release(): void };

type Entry = {
  readonly opening: Promise<{ readonly service: Service; close(): Promise<void> }>;
  opened?: Opened;
  users: number;
  used_ms: number;
};

/** Offers by the ids that clients use: a model's name, or a model's name, a slash and a corpus. */
export class OfferList {
  constructor(readonly offers: readonly Offer[]) {}

  /** Ids for a list of models: each model by itself, and with each of its corpora. */
  get ids(): readonly string[] {
    return [...new Set(this.offers.flatMap((offer) => [offer.model, ...(offer.corpus === "" ? [] : [idOf(offer)])]))];
  }

  /** Whether an id names a corpus. */
  namesCorpus(id: string | undefined): boolean {
    return id !== undefined && this.offers.some((offer) => offer.corpus !== "" && idOf(offer) === withoutTag(id));
  }

  /** @throws ApiError 404 for a model or a corpus that is not offered */
  find({ model, corpus }: Address): Offer {
    const id = model === undefined || model === "default" ? undefined : withoutTag(model);
    const named = this.offers.filter((offer) => id === undefined || id === offer.model || id === idOf(offer));
    if (named.length === 0) {
      throw new ApiError(404, `This server does not have this model. Use ${this.ids.map((each) => `'${each}'`).join(" or ")}.`, {
        param: "model",
        code: "model_not_found",
      });
    }
    const found = corpus == null ? named[0] : named.find((offer) => offer.corpus === corpus);
    if (found) return found;
    const names = this.offers.flatMap((offer) => (offer.corpus === "" ? [] : [`'${offer.corpus}'`])).join(", ");
    throw new ApiError(
      404,
      `There is no corpus with this name${id === undefined ? "" : " for this model"}. This server has ${names || "none"}.`,
      { param: "corpus", code: "corpus_not_found" },
    );
  }
}

export type CatalogueOptions = {
  /** Bytes of free memory; by default those of the machine or its container. */
  readonly memory?: () => number;
  /** Called with each offer that was closed to free memory. */
  readonly onUnload?: (offer: Offer) => void;
};

/**
 * What a server offers. An offer is opened on first use. If memory is short, unused offers are closed before another is
 * opened, least recently used first.
 */
export class Catalogue extends OfferList {
  private readonly entries = new Map<Offer, Entry>();
  private making: Promise<unknown> = Promise.resolve();

  /** @param offers at least one; no two with the same model and corpus */
  constructor(
    offers: readonly Offer[],
    private readonly serve: (opened: Opened, corpusName: string) => Service,
    private readonly options: CatalogueOptions = {},
  ) {
    super(offers);
  }

  /** Everything that is open now. */
  get open(): readonly Opened[] {
    return [...this.entries.values()].flatMap(({ opened }) => opened ?? []);
  }

  /** Opens an offer if needed, and keeps it open while the lease lasts. */
  async lease(offer: Offer): Promise<Lease> {
    const entry = this.entries.get(offer) ?? this.begin(offer);
    entry.users++;
    let released = false;
    const release = () => {
      if (!released) entry.users--;
      released = true;
      entry.used_ms = Date.now();
    };
    try {
      return { service: (await entry.opening).service, release };
    } catch (error) {
      release();
      throw error;
    }
  }

  /** Closes everything. */
  async close(): Promise<void> {
    for (const [offer, { opening }] of [...this.entries]) {
      this.entries.delete(offer);
      await opening.then(
        (opened) => opened.close(),
        () => undefined,
      );
    }
  }

  private begin(offer: Offer): Entry {
    // One after the other, because each needs to know the memory that earlier ones took.
    const opening = this.making
      .catch(() => undefined)
      .then(async () => {
        await this.makeRoom(offer.needs_bytes());
        const opened = await offer.open();
        entry.opened = opened;
        return { service: this.serve(opened, offer.corpus), close: () => opened.close() };
      });
    const entry: Entry = { opening, users: 0, used_ms: Date.now() };
    this.making = opening;
    this.entries.set(offer, entry);
    opening.catch(() => this.entries.delete(offer));
    return entry;
  }

  private async makeRoom(bytes: number): Promise<void> {
    const { memory = availableMemory, onUnload } = this.options;
    while (bytes > 0 && memory() < bytes) {
      const [longest] = [...this.entries]
        .filter(([, { users, opened }]) => users === 0 && opened)
        .toSorted(([, a], [, b]) => a.used_ms - b.used_ms);
      if (!longest) return;
      const [offer, { opening }] = longest;
      this.entries.delete(offer);
      await (await opening).close();
      onUnload?.(offer);
    }
  }
}

function idOf({ model, corpus }: Offer): string {
  return `${model}/${corpus}`;
}

/** Removes the tag that Ollama's clients add to names without one. */
export function withoutTag(id: string): string {
  return id.replace(/:latest$/, "");
}
