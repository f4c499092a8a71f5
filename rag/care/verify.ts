import { type BlockKey, KvspliceError, type Model, type StoredTier, type TierName } from "../../engine/index.js";
import type { CorpusRecords } from "../corpus/records.js";
import { type DocumentEncoder, documentSource } from "../question-plan.js";

/** What to do about damage. */
export type VerifyOptions = {
  /** Removes whatever is damaged so that it is made again: blocks from tiers, files with damaged records from the corpus. Default false. */
  readonly repair?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called after each block. */
  readonly onProgress?: ((done: VerifyProgress) => void) | undefined;
};

/** Blocks and chunks checked so far. */
export type VerifyProgress = { readonly blocks: number; readonly chunks: number; readonly totalChunks: number; readonly damaged: number };

/** A stored block with a wrong checksum. */
export type DamagedBlock = { readonly key: BlockKey; readonly tier: TierName };

/** A chunk whose block is in no tier; the next precompute encodes it. */
export type MissingBlock = { readonly key: BlockKey; readonly path: string; readonly title: string };

/** A file whose chunks, vectors or keys are not what was stored. */
export type DamagedRecord = { readonly path: string; readonly reason: string };

/** What was found. */
export type VerifyReport = {
  /** Blocks and chunks that were checked. A block counts once per tier. */
  readonly blocks: number;
  readonly chunks: number;
  readonly damaged: readonly DamagedBlock[];
  readonly missing: readonly MissingBlock[];
  readonly records: readonly DamagedRecord[];
  /** Whether the damaged items were removed. */
  readonly repaired: boolean;
};

/** What to verify. */
export type Verified = {
  readonly records: CorpusRecords;
  readonly model: DocumentEncoder & Pick<Model, "keyOf">;
  readonly tiers: readonly StoredTier[];
  readonly dimensions: number | undefined;
};

/**
 * Reads everything that is stored: checks every block of every tier against its checksum, and for every chunk of the
 * corpus whether its block exists under the key of its tokens and its vector is complete.
 *
 * @throws KvspliceError `cancelled`
 */
export async function verify({ records, model, tiers, dimensions }: Verified, options: VerifyOptions = {}): Promise<VerifyReport> {
  const { repair = false, signal, onProgress } = options;
  const sound = new Set<BlockKey>();
  const damaged: DamagedBlock[] = [];
  const missing: MissingBlock[] = [];
  const broken = new Map<string, DamagedRecord>();
  const totalChunks = records.totals.chunks;
  let blocks = 0;
  let chunks = 0;

  const tell = () => {
    if (signal?.aborted) throw new KvspliceError("cancelled", "The verification was cancelled.", { cause: signal.reason });
    onProgress?.({ blocks, chunks, totalChunks, damaged: damaged.length });
  };
  for (const tier of tiers) {
    for await (const { key } of tier.infos()) {
      if (await tier.verify(key)) sound.add(key);
      else damaged.push({ key, tier: tier.name });
      blocks++;
      tell();
    }
  }
  for (const file of [...records.allFiles()]) {
    for (const id of file.chunks) {
      const reason = damageOf(records, id, model, dimensions);
      if (reason !== undefined) broken.set(file.path, { path: file.path, reason });
      const chunk = records.chunk(id);
      if (chunk !== undefined && !sound.has(chunk.block)) missing.push({ key: chunk.block, path: file.path, title: chunk.title });
      chunks++;
      tell();
    }
  }
  if (repair) {
    for (const tier of tiers) await tier.delete(damaged.filter((block) => block.tier === tier.name).map(({ key }) => key));
    for (const path of broken.keys()) records.removeFile(path);
  }
  return { blocks, chunks, damaged, missing, records: [...broken.values()], repaired: repair };
}

function damageOf(
  records: CorpusRecords,
  id: number,
  model: DocumentEncoder & Pick<Model, "keyOf">,
  dimensions: number | undefined,
): string | undefined {
  const chunk = records.chunk(id);
  if (chunk === undefined) return `its chunk ${id} is missing`;
  if (model.keyOf(documentSource(model, chunk.tokens)) !== chunk.block) return `the key of its chunk ${id} does not match its tokens`;
  if (!records.refersTo(chunk.block)) return `its chunk ${id} is not counted as referring to its block`;
  const vector = records.vector(id);
  if (vector === undefined || vector.length !== dimensions || !vector.every(Number.isFinite))
    return `the vector of its chunk ${id} is missing or has the wrong length`;
  return undefined;
}
