import { answer } from "../../runtime/thread.js";
import type { Document, LoadProblem } from "../document.js";
import { loadHere } from "./load.js";

let documents: readonly Document[] = [];

const calls = {
  /** Reads the file; its documents are fetched afterwards. */
  async load({
    path,
    bytes,
  }: {
    readonly path: string;
    readonly bytes: Uint8Array;
  }): Promise<{ readonly count: number; readonly problems: readonly LoadProblem[] }> {
    const loaded = await loadHere(path, bytes);
    ({ documents } = loaded);
    return { count: documents.length, problems: loaded.problems };
  },
  take({ from, to }: { readonly from: number; readonly to: number }): readonly Document[] {
    return documents.slice(from, to);
  },
};

export type ReadingCalls = typeof calls;

answer(calls);
