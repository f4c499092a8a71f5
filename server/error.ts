import type { ContentfulStatusCode } from "hono/utils/http-status";
import { KvspliceError } from "../engine/index.js";

/** An error in OpenAI's format, as its clients expect it (https://platform.openai.com/docs/guides/error-codes). */
export type ErrorBody = {
  readonly error: { readonly message: string; readonly type: string; readonly param: string | null; readonly code: string | null };
};

/** A refused or failed request. Any route may throw it. Its message is sent to the client unchanged. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly type: string;
  readonly param: string | null;
  readonly code: string | null;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    readonly status: ContentfulStatusCode,
    message: string,
    details: {
      readonly param?: string;
      readonly code?: string;
      readonly headers?: Readonly<Record<string, string>>;
      readonly cause?: unknown;
    } = {},
  ) {
    super(message, { cause: details.cause });
    this.type = typeOf(status);
    this.param = details.param ?? null;
    this.code = details.code ?? null;
    this.headers = details.headers ?? {};
  }

  get body(): ErrorBody {
    const { message, type, param, code } = this;
    return { error: { message, type, param, code } };
  }
}

function typeOf(status: number): string {
  if (status === 401) return "authentication_error";
  if (status === 403) return "permission_error";
  if (status === 429) return "rate_limit_error";
  return status < 500 ? "invalid_request_error" : "server_error";
}

/** For clients that closed the connection. They read no answer, so the status is only for the log (nginx's 499). */
export const CLIENT_GONE = 499 as ContentfulStatusCode;

/** The error for the client. Details of unexpected errors are withheld, because they may name files and code. */
export function apiErrorOf(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof KvspliceError) {
    switch (error.code) {
      case "bad_argument":
      case "bad_markup":
        return new ApiError(400, error.message, { cause: error });
      case "too_long":
        return new ApiError(400, error.message, { code: "context_length_exceeded", cause: error });
      case "unknown_document":
        return new ApiError(404, `There is ${error.message}.`, { param: "documents", code: "document_not_found", cause: error });
      case "empty_corpus":
        return new ApiError(400, error.message, { param: "corpus", code: "empty_corpus", cause: error });
      case "cancelled":
        return new ApiError(CLIENT_GONE, "The client closed the connection.", { cause: error });
      case "no_space":
        return new ApiError(507, "The server's disk is full.", { cause: error });
    }
  }
  return new ApiError(500, "The server failed to answer. Its log has the reason, under this response's x-request-id.", { cause: error });
}
