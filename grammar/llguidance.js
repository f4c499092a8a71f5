// llguidance (https://github.com/guidance-ai/llguidance) in WebAssembly, called from the thread that answers and from the
// worker that tries out grammars. Plain JavaScript, because a worker loads it both from the sources and from the build.

const PAGE_bytes = 65_536;

/** One module may use no more memory than this: 512 MiB. */
const MOST_PAGES = 8_192;

const encoder = new TextEncoder();

/** One copy of the module with a vocabulary loaded. After a trap it is `broken`: its data may be corrupt. */
export class Llguidance {
  broken = false;

  constructor(module) {
    this.exports = new WebAssembly.Instance(module, { env: { now: () => performance.now() } }).exports;
  }

  /** Reads a vocabulary, which takes a second for a large one. */
  static ofTokens(module, { bytes, ends, stops }) {
    const engine = new Llguidance(module);
    const { exports } = engine;
    exports.begin();
    engine.words = (ends.length + 31) >> 5;
    engine.maskAt = exports.allocate(4 * engine.words);
    engine.factory = engine.within([bytes, ends, stops], (bytesAt, endsAt, stopsAt) => exports.vocabulary(bytesAt, endsAt, ends.length, stopsAt, stops.length));
    return engine;
  }

  /** Starts from another copy's memory, which takes no longer than copying it. */
  static ofSnapshot(module, { memory, words, maskAt, factory }) {
    const engine = new Llguidance(module);
    const own = engine.exports.memory;
    own.grow((memory.byteLength - own.buffer.byteLength) / PAGE_bytes);
    new Uint8Array(own.buffer).set(new Uint8Array(memory));
    return Object.assign(engine, { words, maskAt, factory });
  }

  /** The memory as it is between calls: an engine keeps nothing elsewhere. */
  snapshot() {
    const { words, maskAt, factory, exports } = this;
    const memory = new SharedArrayBuffer(exports.memory.buffer.byteLength);
    new Uint8Array(memory).set(new Uint8Array(exports.memory.buffer));
    return { memory, words, maskAt, factory };
  }

  compile(kind, text) {
    const [kindBytes, bytes] = [encoder.encode(kind), encoder.encode(text)];
    return this.within([kindBytes, bytes], (kindAt, at) => this.exports.compile(this.factory, kindAt, kindBytes.length, at, bytes.length));
  }

  copy(matcher) {
    return this.call(() => this.exports.copy(matcher));
  }

  drop(matcher) {
    if (!this.broken) this.call(() => this.exports.drop_matcher(matcher));
  }

  mask(matcher, mask) {
    if (this.call(() => this.exports.mask(matcher, this.maskAt, this.words)) < 0) throw this.failure();
    mask.set(new Uint32Array(this.exports.memory.buffer, this.maskAt, Math.min(this.words, mask.length)));
    mask.fill(0, this.words);
  }

  accept(matcher, token) {
    if (this.call(() => this.exports.accept(matcher, token)) < 0) throw this.failure();
  }

  rollback(matcher, tokens) {
    if (this.call(() => this.exports.rollback(matcher, tokens)) < 0) throw this.failure();
  }

  finished(matcher) {
    return this.call(() => this.exports.finished(matcher)) === 1;
  }

  /** Calls with arrays copied into the module's memory; returns an address, or 0 for an error. */
  within(arrays, use) {
    const { exports } = this;
    const places = arrays.map(({ byteLength }) => exports.allocate(byteLength));
    arrays.forEach(({ buffer, byteOffset, byteLength }, i) => new Uint8Array(exports.memory.buffer).set(new Uint8Array(buffer, byteOffset, byteLength), places[i]));
    const result = this.call(() => use(...places));
    places.forEach((at, i) => exports.release(at, arrays[i].byteLength));
    if (result === 0) throw this.failure();
    return result;
  }

  call(use) {
    if (this.broken) throw new Error("the engine failed on another grammar");
    try {
      return use();
    } catch (cause) {
      this.broken = true;
      throw new Error(this.failure().message || String(cause), { cause });
    } finally {
      if (this.exports.memory.buffer.byteLength > MOST_PAGES * PAGE_bytes) this.broken = true;
    }
  }

  failure() {
    const { exports } = this;
    return new Error(new TextDecoder().decode(new Uint8Array(exports.memory.buffer, exports.error_at(), exports.error_length())));
  }
}
