import type { KvForm } from "../../kv/form.js";
import type { RotaryTable } from "../../kv/rotary.js";
import type { Where } from "../../model/adapter/index.js";
import type { Backend, PassPart } from "../backend.js";
import type { AdapterInputs } from "./adapter.js";
import { KvCache } from "./cache.js";
import type { PassRunner } from "./pass.js";
import { BATCH_SLOTS, type Sessions } from "./session.js";

/** Tokens of one pass: longer prompts are cut, because the scores of all pairs exist at once. */
const PASS_TOKENS = 256;

/** Scores of one prompt's tokens in a pass: some copies of them exist at once, and larger ones make no pass faster. */
const SCORE_BYTES = 12 * 2 ** 20;

/** However long a prompt is: with fewer tokens a pass, reading the weights takes longer than the scores. */
const LEAST_PASS_TOKENS = 32;

/** ONNX Runtime on the processor; KV in WebAssembly memories that its graphs read and write in place. */
export class CpuBackend implements Backend {
  readonly mostSlots = BATCH_SLOTS;
  private several: "closed" | "opening" | "open" = "closed";

  /**
   * @param release frees what the sessions were opened over
   * @param adapter acts on the passes that it names
   */
  constructor(
    private readonly sessions: Sessions,
    private readonly runner: PassRunner,
    private readonly tables: readonly RotaryTable[],
    private readonly release: () => Promise<void>,
    private readonly adapter?: { readonly where: Where; readonly inputs: AdapterInputs },
  ) {}

  get form(): KvForm {
    return this.runner.form;
  }

  get slots(): number {
    return this.several === "open" ? BATCH_SLOTS : 1;
  }

  widen(): void {
    if (this.several !== "closed" || this.adapter?.where === "both") return; // an adapter's passes are one part's
    this.several = "opening";
    this.sessions.batch().then(
      () => (this.several = "open"),
      () => undefined, // one at a time, then
    );
  }

  passTokens(rows: number): number {
    const most = Math.floor(SCORE_BYTES / ((rows + PASS_TOKENS) * this.runner.scoreBytes));
    return Math.min(PASS_TOKENS, Math.max(LEAST_PASS_TOKENS, most));
  }

  createCache(): KvCache {
    return new KvCache(this.form, this.tables);
  }

  run(parts: readonly PassPart[]): Promise<Float32Array[]> {
    const acts = this.adapter && (this.adapter.where === "both" || parts.some(({ adapted }) => adapted));
    return this.runner.run(parts.map(ownPart), acts ? this.adapter!.inputs : undefined);
  }

  look(part: PassPart, asks: readonly number[]): Promise<Float32Array> {
    return this.runner.look(ownPart(part), asks);
  }

  async close(): Promise<void> {
    await this.sessions.close();
    await this.release();
  }
}

function ownPart(part: PassPart): PassPart & { readonly cache: KvCache } {
  const { cache } = part;
  if (cache instanceof KvCache) return { ...part, cache };
  throw new Error("This cache belongs to another backend.");
}
