import { KvspliceError } from "../../../plan/index.js";
import type { ModelFile } from "../files/model-file.js";
import { dequantize } from "../tensors/index.js";

/** More layers than any model has: a damaged header must not lead to lists of billions. */
const MOST_LAYERS = 1000;

/** Keys of an architecture that do not affect what is computed, or that were used on opening to refuse models that do not generate. */
const SILENT_KEYS: readonly string[] = ["vocab_size", "tensor_data_layout", "rope.scaling.finetuned", "attention.causal", "pooling_type"];

/**
 * Reads a model's file for a family, and records what was read: anything else in the file would be left out of the
 * computation. Keys are given without the architecture that they begin with.
 */
export class SpecReader {
  readonly architecture: string;
  private readonly keys = new Set<string>();
  private readonly tensors = new Set<string>();

  /** @param context positions that the model is to be used with; as many as it was trained on if omitted */
  constructor(
    private readonly file: ModelFile,
    private readonly context: number | undefined,
  ) {
    this.architecture = String(file.metadata["general.architecture"]);
  }

  get origin(): ModelFile["origin"] {
    return this.file.origin;
  }

  get name(): string {
    return String(this.file.metadata["general.name"] ?? this.architecture);
  }

  /** Tokens that the embedding has a row for. */
  get vocabulary(): number {
    return this.file.info(this.tensor("token_embd.weight")).shape[0]!;
  }

  get contextLength(): number {
    const trained = this.count("context_length");
    return this.context ?? trained;
  }

  get layers(): number {
    const layers = this.count("block_count");
    if (layers > MOST_LAYERS) throw this.wrong("block_count", `is ${layers}, but at most ${MOST_LAYERS} are supported`);
    return layers;
  }

  number(key: string, fallback?: number): number {
    const value = this.optionalNumber(key) ?? fallback;
    if (value === undefined)
      throw new KvspliceError("bad_model", `The model file lacks ${this.fullKey(key)}. Convert the model to GGUF again.`);
    return value;
  }

  /** A number of any type; a list of equal numbers counts as one, too. */
  optionalNumber(key: string): number | undefined {
    const value = this.value(key);
    if (!Array.isArray(value)) return value === undefined ? undefined : this.numberOf(key, value);
    const numbers = value.map((each) => this.numberOf(key, each));
    if (numbers.length === 0 || numbers.some((each) => each !== numbers[0]))
      throw this.wrong(key, "differs between layers, which is not supported for this architecture");
    return numbers[0]!;
  }

  /** A count: a whole number of at least 1. */
  count(key: string, fallback?: number): number {
    const value = this.number(key, fallback);
    if (!Number.isSafeInteger(value) || value < 1) throw this.wrong(key, `is ${value}; it must be a whole number of at least 1`);
    return value;
  }

  /** A list of numbers or truth values; one element if the file has a single value. */
  optionalList(key: string): readonly unknown[] | undefined {
    const value = this.value(key);
    return value === undefined || Array.isArray(value) ? value : [value];
  }

  text(key: string): string | undefined {
    const value = this.value(key);
    if (value !== undefined && typeof value !== "string") throw this.wrong(key, "is not a text");
    return value;
  }

  flag(key: string): boolean | undefined {
    const value = this.value(key);
    if (value !== undefined && typeof value !== "boolean") throw this.wrong(key, "is neither true nor false");
    return value;
  }

  /** A tensor's name, after checking that the file has the tensor. */
  tensor(name: string): string {
    const found = this.optionalTensor(name);
    if (found === undefined)
      throw new KvspliceError(
        "bad_model",
        `The model file has no tensor ${name}, which ${this.architecture} needs. Convert the model to GGUF again.`,
      );
    return found;
  }

  optionalTensor(name: string): string | undefined {
    if (!this.file.has(name)) return undefined;
    this.tensors.add(name);
    return name;
  }

  /** A small tensor's values. */
  optionalValues(name: string): Float32Array | undefined {
    const found = this.optionalTensor(name);
    return found === undefined ? undefined : dequantize(this.file.tensor(found));
  }

  /**
   * Call this when a family has read everything it knows.
   * @throws KvspliceError `bad_model` naming what else the file has
   */
  mustHaveReadAll(): void {
    const tensor = [...this.file.names()].find((name) => !this.tensors.has(name));
    if (tensor !== undefined) {
      throw new KvspliceError(
        "bad_model",
        `The model file has ${tensor}, which kvsplice does not use for ${this.architecture}: answers would be wrong. Use another model.`,
      );
    }
    const prefix = `${this.architecture}.`;
    for (const name of Object.keys(this.file.metadata)) {
      const key = name.slice(prefix.length);
      if (name.startsWith(prefix) && !this.keys.has(key) && !SILENT_KEYS.includes(key)) {
        throw new KvspliceError(
          "bad_model",
          `The model file has the key ${name}, unknown to kvsplice for ${this.architecture}: answers may be wrong. Use another model.`,
        );
      }
    }
  }

  /** The error for a key whose value cannot be used. */
  wrong(key: string, what: string): KvspliceError {
    return new KvspliceError(
      "bad_model",
      `${this.fullKey(key)} in the model file ${what}. Convert the model to GGUF again, or use another model.`,
    );
  }

  private value(key: string): unknown {
    this.keys.add(key);
    return this.file.metadata[this.fullKey(key)];
  }

  private numberOf(key: string, value: unknown): number {
    const number = typeof value === "bigint" ? Number(value) : value;
    if (typeof number !== "number" || !Number.isFinite(number)) throw this.wrong(key, "is not a number");
    return number;
  }

  private fullKey(key: string): string {
    return `${this.architecture}.${key}`;
  }
}
