/** What went wrong, for programs; the message says what to do about it, for people. */
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

/** The only errors that kvsplice throws on purpose. */
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

/** What ended the work of a signal: its reason if that is a KvspliceError, otherwise that it was cancelled. */
export function cancelledError(signal: AbortSignal | undefined): KvspliceError {
  if (signal?.reason instanceof KvspliceError) return signal.reason;
  return new KvspliceError("cancelled", "Cancelled.", { cause: signal?.reason });
}
