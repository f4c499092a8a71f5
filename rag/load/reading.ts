import { cancelledError } from "../../plan/index.js";
import { Thread } from "../../runtime/thread.js";
import type { Document } from "../document.js";
import type { Loaded, LoadOptions } from "./loader.js";
import type { ReadingCalls } from "./reading-thread.js";

const PROGRAM = new URL("./reading-thread.js", import.meta.url);

/** Documents fetched at a time: copying them blocks this thread, and the event loop runs in between. */
const AT_ONCE = 500;

/**
 * Loads a file in a separate thread that ends with it: this thread stays free meanwhile, and a file that needs too much
 * memory brings down only its own thread.
 *
 * @throws KvspliceError `cancelled`, immediately
 */
export async function loadInThread(path: string, bytes: Uint8Array, { signal }: LoadOptions): Promise<Loaded> {
  if (signal?.aborted) throw cancelledError(signal);
  const thread = new Thread<ReadingCalls>(PROGRAM, `reading ${path}`);
  const end = () => void thread.abandon();
  signal?.addEventListener("abort", end, { once: true });
  try {
    const { count, problems } = await thread.ask("load", { path, bytes });
    const documents: Document[] = [];
    while (documents.length < count)
      documents.push(...(await thread.ask("take", { from: documents.length, to: documents.length + AT_ONCE })));
    return { documents, problems };
  } catch (error) {
    if (signal?.aborted) throw cancelledError(signal);
    const why = error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error);
    return {
      documents: [],
      problems: [{ path, reason: `It could not be read (${why}); split it into smaller files, or convert it to plain text.` }],
    };
  } finally {
    signal?.removeEventListener("abort", end);
    await thread.abandon();
  }
}
