import type { KvspliceError } from "../../../plan/index.js";
import type { KvForm } from "../../kv/form.js";
import type { Backend, Cache, PassPart } from "../backend.js";
import { DeviceCache } from "./device-cache.js";
import type { PromptDevice } from "./prompt-device.js";

/** Tokens of one prompt in a pass on the device: more do not make it faster, and masks and activations take memory. */
const PASS_TOKENS = 1024;

/**
 * Answers on the device; the processor takes over what it fails.
 */
export class DeviceBackend implements Backend {
  private prompts = 0;

  constructor(
    private readonly device: PromptDevice,
    private readonly processor: Backend,
    /** Whether an encoding adapter acts on some parts, which the device has no weights for in prompts. */
    private readonly leavesAdapted: boolean,
  ) {}

  get form(): KvForm {
    return this.processor.form;
  }

  get encodesApart(): boolean {
    return this.processor.encodesApart;
  }

  get slots(): number {
    return this.device.isLost ? this.processor.slots : this.device.slots;
  }

  get mostSlots(): number {
    return this.processor.mostSlots;
  }

  get failure(): KvspliceError | undefined {
    return this.processor.failure;
  }

  widen(): void {
    if (this.device.isLost) this.processor.widen();
    else this.device.widen();
  }

  passTokens(rows: number): number {
    return this.device.isLost ? this.processor.passTokens(rows) : PASS_TOKENS;
  }

  createCache(): Cache {
    return new DeviceCache(this.prompts++, this.device, this.processor);
  }

  run(parts: readonly PassPart[]): Promise<Float32Array[]> {
    return DeviceCache.run(
      parts.map((part) => ({ ...part, cache: ownCache(part.cache), adapted: part.adapted && this.leavesAdapted })),
      this.device,
      this.processor,
    );
  }

  look({ cache, ...part }: PassPart, asks: readonly number[]): Promise<Float32Array> {
    return ownCache(cache).look(part, asks);
  }

  close(): Promise<void> {
    return this.processor.close();
  }
}

function ownCache(cache: Cache): DeviceCache {
  if (cache instanceof DeviceCache) return cache;
  throw new Error("This cache belongs to another backend.");
}
