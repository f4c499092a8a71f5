/** The part of the WebAssembly API that the splice uses; TypeScript declares it only for browsers. */
declare namespace WebAssembly {
  class Memory {
    constructor(descriptor: { initial: number; maximum: number });
    /** Replaced by a new one when the memory grows. */
    readonly buffer: ArrayBuffer;
    /** Adds pages of 64 KiB; the content stays in place. */
    grow(pages: number): number;
  }
  class Module {
    constructor(bytes: Uint8Array);
  }
  class Instance {
    constructor(module: Module, imports: { env: { memory: Memory } });
    readonly exports: Record<string, unknown>;
  }
}
