import type { KvForm } from "../../kv/form.js";
import { RotaryTable } from "../../kv/rotary.js";
import type { Adapter } from "../../model/adapter/index.js";
import { openModelFile, type Quantization } from "../../model/files/open.js";
import type { ModelSpec } from "../../model/spec.js";
import type { Backend, PassPart } from "../backend.js";
import { type AdapterInputs, adapterInputs } from "./adapter.js";
import { KvCache } from "./cache.js";
import { Embedding } from "./embedding.js";
import { Encoder } from "./encoder.js";
import { encoderId } from "./identity.js";
import { BATCH_SLOTS, passTokens } from "./limits.js";
import { PassRunner } from "./pass.js";
import { openSessions, type SessionOptions, type Sessions } from "./session.js";

export type CpuOptions = SessionOptions & {
  /** The model's files. */
  readonly path: string;
  readonly quantize: Quantization | undefined;
  readonly spec: ModelSpec;
  /** The name of its graphs: `graphId`. */
  readonly id: string;
  /** Adapters that act together; may be empty. */
  readonly adapters: readonly Adapter[];
  /** Tokens over which encoding in 8 bits is calibrated; if omitted, blocks are encoded the way answers are computed. */
  readonly calibration?: readonly number[] | undefined;
};

/** ONNX Runtime on the CPU, with KV in WebAssembly memories that its graphs read and write in place. */
export class CpuBackend implements Backend {
  readonly mostSlots = BATCH_SLOTS;
  readonly failure = undefined;
  private several: "closed" | "opening" | "open" = "closed";

  private constructor(
    private readonly spec: ModelSpec,
    private readonly sessions: Sessions,
    private readonly runner: PassRunner,
    private readonly tables: readonly RotaryTable[],
    /** Closes the model's files. */
    private readonly release: () => void,
    /** The adapters' inputs for passes that answer, and for those that encode blocks. */
    private readonly acting: { readonly answering: AdapterInputs | undefined; readonly encoding: AdapterInputs | undefined },
    private readonly encoder: Encoder | undefined,
  ) {}

  /** @throws KvspliceError `bad_model` if an adapter does not fit, `bad_store` if its graphs cannot be stored */
  static async open({ path, quantize, spec, id, adapters, calibration, ...options }: CpuOptions): Promise<CpuBackend> {
    const file = openModelFile(path, { quantize });
    try {
      const always = adapters.filter(({ where }) => where === "both");
      const inputsOf = (those: readonly Adapter[]) => (those.length === 0 ? undefined : adapterInputs(spec, those));
      const answering = inputsOf(always);
      const acting = { answering, encoding: always.length === adapters.length ? answering : inputsOf(adapters) };
      const sessions = await openSessions(id, file, spec, options);
      const tables = spec.rotaries.map(({ frequencies }) => new RotaryTable(frequencies));
      const runner = new PassRunner(sessions, spec, tables, new Embedding(file));
      const measure = () => runner.magnitudes(calibration!, new KvCache(runner.form, tables));
      const encoder = calibration && new Encoder(encoderId(id), file, spec, options, measure);
      return new CpuBackend(spec, sessions, runner, tables, () => file.close(), acting, encoder);
    } catch (error) {
      file.close();
      throw error;
    }
  }

  get form(): KvForm {
    return this.runner.form;
  }

  get encodesApart(): boolean {
    return this.encoder !== undefined;
  }

  get slots(): number {
    return this.several === "open" ? BATCH_SLOTS : 1;
  }

  widen(): void {
    if (this.several !== "closed" || this.acting.answering) return; // passes with an adapter have one part
    this.several = "opening";
    this.sessions.batch().then(
      () => (this.several = "open"),
      () => undefined, // then it stays one at a time
    );
  }

  passTokens(rows: number): number {
    return passTokens(this.spec, rows);
  }

  createCache(): KvCache {
    return new KvCache(this.form, this.tables);
  }

  async run(parts: readonly PassPart[]): Promise<Float32Array[]> {
    const inputs = parts.some(({ adapted }) => adapted) ? this.acting.encoding : this.acting.answering;
    const encoder = parts.some(({ apart }) => apart) ? await this.encoder?.session({ adapted: inputs !== undefined }) : undefined;
    return this.runner.run(parts.map(ownPart), inputs, encoder);
  }

  look(part: PassPart, asks: readonly number[]): Promise<Float32Array> {
    return this.runner.look(ownPart(part), asks);
  }

  async close(): Promise<void> {
    await this.encoder?.close();
    await this.sessions.close();
    this.release();
  }
}

function ownPart(part: PassPart): PassPart & { readonly cache: KvCache } {
  const { cache } = part;
  if (cache instanceof KvCache) return { ...part, cache };
  throw new Error("This cache belongs to another backend.");
}
