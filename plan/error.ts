/** What went wrong, for programs; the message says what to do, for people. */
export type ErrorCode =
  | "bad_argument"
  | "bad_file"
  | "bad_markup"
  | "bad_model"
  | "bad_store"
  | "cancelled"
  | "closed"
  | "empty_corpus"
  | "job_failed"
  | "no_space"
  | "store_in_use"
  | "too_long"
  | "unknown_document"
  | "unreachable";

/** The one family of errors that kvsplice throws on purpose. */
export class KvspliceError extends Error {
  override readonly name = "KvspliceError";
  constructor(
    readonly code: ErrorCode,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

/** What ended the work of a signal: its reason where that is one of kvsplice's own, or else that it was cancelled. */
export function cancelledError(signal: AbortSignal | undefined): KvspliceError {
  if (signal?.reason instanceof KvspliceError) return signal.reason;
  return new KvspliceError("cancelled", "Cancelled.", { cause: signal?.reason });
}
