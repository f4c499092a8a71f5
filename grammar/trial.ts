import { Worker } from "node:worker_threads";
import { cancelledError, KvspliceError } from "../plan/index.js";
import type { GrammarSource, Snapshot, TokenBytes } from "./llguidance.js";

type Reply = { readonly snapshot?: Snapshot; readonly error?: string };

/** Compiles grammars in a separate thread, each within a time limit. A grammar that passes may be compiled where answers are given. */
export class Trial {
  private worker: Worker | undefined;
  private snapshot: Snapshot | undefined;
  private last: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly module: WebAssembly.Module,
    private readonly tokens: TokenBytes,
    private readonly limit_ms: number,
  ) {}

  /**
   * Resolves with an engine to compile it with, which contains the vocabulary and nothing else.
   * @throws KvspliceError `bad_argument` for a grammar that cannot be compiled or takes too long, `cancelled`
   */
  pass(source: GrammarSource, signal?: AbortSignal): Promise<Snapshot> {
    const own = this.last.then(() => this.try(source, signal));
    this.last = own.catch(() => undefined);
    return own;
  }

  async close(): Promise<void> {
    await this.last;
    await this.end();
  }

  private async try(source: GrammarSource, signal?: AbortSignal): Promise<Snapshot> {
    if (signal?.aborted) throw cancelledError(signal);
    const { worker, snapshot } = await this.started();
    worker.ref();
    const timer = new AbortController();
    const late = setTimeout(() => timer.abort(), this.limit_ms);
    worker.postMessage(source);
    const { error } = await nextReply(worker, timer.signal, `it takes longer than ${this.limit_ms / 1000} s to compile`);
    clearTimeout(late);
    worker.unref();
    if (timer.signal.aborted) await this.end();
    if (error !== undefined)
      throw new KvspliceError("bad_argument", `The answer cannot be constrained to this schema: ${explained(error)}.`);
    return snapshot;
  }

  private async started(): Promise<{ readonly worker: Worker; readonly snapshot: Snapshot }> {
    if (this.worker && this.snapshot) return { worker: this.worker, snapshot: this.snapshot };
    const { module, tokens } = this;
    const worker = new Worker(new URL("./trial-worker.js", import.meta.url), {
      workerData: { module, ...(this.snapshot ? { snapshot: this.snapshot } : { tokens }) },
    });
    this.worker = worker;
    const { snapshot, error } = await nextReply(worker);
    if (!snapshot) throw new Error(`The worker that compiles grammars does not start: ${error ?? "it reports no reason"}.`);
    return { worker, snapshot: (this.snapshot = snapshot) };
  }

  private async end(): Promise<void> {
    const { worker } = this;
    this.worker = undefined;
    await worker?.terminate();
  }
}

/** What llguidance reports about a schema, reworded to name the keyword. */
const REASONS: readonly (readonly [said: RegExp, reason: string])[] = [
  [/^Unimplemented keys: \["([^"]+)"\]/, 'the keyword "$1" is not supported'],
  [/^Unimplemented keys: \[(.+?)\]/, "the keywords $1 are not supported"],
  [/^oneOf constraints/, 'the alternatives of "oneOf" may overlap; use "anyOf"'],
  [/^Resource '(.+?)' is not present.*/, '"$ref" points to $1, which is not in the schema'],
  [/^Unknown format: (.+)/, 'the "format" $1 is not supported'],
  [/^patternProperty regexes (.+) are not disjoint/, 'in "patternProperties", $1 may match the same name'],
  [/^Unsatisfiable schema: /, "no answer is valid: "],
];

function explained(error: string): string {
  const line = error
    .trim()
    .replace(/\s*\n\s*/g, " ")
    .replace(/\.$/, "");
  const known = REASONS.find(([said]) => said.test(line));
  if (!known) return line;
  const [said, reason] = known;
  return reason.endsWith(" ") ? line.replace(said, reason) : said.exec(line)![0].replace(said, reason);
}

function nextReply(worker: Worker, late?: AbortSignal, reason?: string): Promise<Reply> {
  return new Promise((resolve) => {
    const end = (reply: Reply) => {
      worker.off("message", end);
      worker.off("error", fail);
      late?.removeEventListener("abort", give);
      resolve(reply);
    };
    const fail = (error: Error) => end({ error: error.message });
    const give = () => end({ error: reason ?? "" });
    worker.on("message", end);
    worker.on("error", fail);
    late?.addEventListener("abort", give);
  });
}
