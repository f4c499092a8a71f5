/** What the splice uses of the WebAssembly API; TypeScript declares it for browsers alone. */
declare namespace WebAssembly {
  class Memory {
    constructor(descriptor: { initial: number; maximum: number });
    /** Replaced by a new one when the memory grows. */
    readonly buffer: ArrayBuffer;
    /** Adds pages of 64 KiB; what is in the memory stays where it is. */
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
