import { setImmediate } from "node:timers/promises";
import type { Context } from "hono";
import type { z } from "zod";
import type { Environment } from "./environment.js";
import { ApiError } from "./error.js";
import { unreadFields } from "./requests/object.js";

/** A parsed body, and the names of the unknown fields that were left out. */
export type Body<T> = { readonly request: T; readonly unread: readonly string[] };

/**
 * Reads the JSON of a request's body, parsed by the schema.
 * @throws ApiError 400 for a body that is not JSON in UTF-8 or does not match the schema (the error names the field), 413 if
 *   it is too large, 415 for another media type, because pages of other origins can send those without a preflight request
 */
export async function readBody<Schema extends z.ZodType>(c: Context<Environment>, schema: Schema): Promise<Body<z.output<Schema>>> {
  const type = c.req.header("content-type")?.split(";")[0]!.trim().toLowerCase();
  if (type !== "application/json") {
    throw new ApiError(415, "The body's media type is not application/json. Send the header content-type: application/json.", {
      code: "unsupported_media_type",
    });
  }
  return parseBody(await readBytes(c), schema);
}

/** `readBody`, for schemas that ignore no fields. */
export async function readJson<Schema extends z.ZodType>(c: Context<Environment>, schema: Schema): Promise<z.output<Schema>> {
  return (await readBody(c, schema)).request;
}

/** Reads from Node's stream directly: a body that is too large is not read on, and the server closes the connection soon. */
export async function readBytes({ env, var: { bodyLimit_bytes } }: Context<Environment>): Promise<Buffer<ArrayBuffer>> {
  const tooLarge = () =>
    new ApiError(413, `The body is larger than the ${bodyLimit_bytes} bytes that this server accepts.`, { code: "body_too_large" });
  if (Number(env.incoming.headers["content-length"] ?? 0) > bodyLimit_bytes) throw tooLarge();
  const parts: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const part of env.incoming.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      bytes += part.length;
      if (bytes > bodyLimit_bytes) throw tooLarge();
      parts.push(part);
    }
  } catch (cause) {
    if (cause instanceof ApiError) throw cause;
    throw new ApiError(400, "The body ended too early.", { cause });
  }
  return Buffer.concat(parts);
}

/** Each step takes about ten milliseconds for the largest body. In between, other requests get the thread. */
async function parseBody<Schema extends z.ZodType>(bytes: Buffer, schema: Schema): Promise<Body<z.output<Schema>>> {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new ApiError(400, "The body is not valid UTF-8.", { code: "invalid_utf8", cause });
  }
  await setImmediate();
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new ApiError(400, `The body is not JSON: ${(cause as Error).message}`, { code: "invalid_json", cause });
  }
  await setImmediate();
  const parsed = schema.safeParse(value);
  await setImmediate();
  if (parsed.success) return { request: parsed.data, unread: unreadFields(value, schema) };
  throw refusal(parsed.error.issues);
}

type Issue = z.core.$ZodIssue;

/** Maximum characters of a client's text quoted in an error. */
const QUOTED = 100;

/** The error for the first issue, in OpenAI's form. */
function refusal(issues: readonly Issue[]): ApiError {
  const { issue, path } = innermost(issues[0]!, []);
  if (issue.code === "unrecognized_keys") {
    const param = quoted(fieldName([...path, issue.keys[0]!]));
    return new ApiError(400, `Unknown parameter: '${param}'.`, { param, code: "unknown_parameter" });
  }
  const param = quoted(fieldName(path));
  const missing = issue.code === "invalid_type" && issue.message.endsWith("received undefined");
  if (missing) return new ApiError(400, `Missing required parameter: '${param}'.`, { param, code: "missing_required_parameter" });
  const message = param === "" ? `Invalid body: ${issue.message}.` : `Invalid value for '${param}': ${issue.message}.`;
  const code = issue.code === "invalid_type" ? "invalid_type" : "invalid_value";
  return new ApiError(400, message, { ...(param !== "" && { param }), code });
}

/** For a union, the issue of the closest alternative: the one whose issue is nested deepest. */
function innermost(issue: Issue, before: readonly PropertyKey[]): { issue: Issue; path: readonly PropertyKey[] } {
  const path = [...before, ...issue.path];
  if (issue.code !== "invalid_union") return { issue, path };
  const inner = issue.errors.flatMap(([first]) => (first ? [innermost(first, path)] : []));
  const deepest = inner.sort((a, b) => b.path.length - a.path.length)[0];
  return deepest && deepest.path.length > path.length ? deepest : { issue, path };
}

/** A field's name in OpenAI's form, such as `messages[0].content`. */
function fieldName(path: readonly PropertyKey[]): string {
  return path
    .map((key) => (typeof key === "number" ? `[${key}]` : `.${String(key)}`))
    .join("")
    .replace(/^\./, "");
}

function quoted(text: string): string {
  return text.length > QUOTED ? `${text.slice(0, QUOTED)}…` : text;
}
