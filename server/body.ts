import { setImmediate } from "node:timers/promises";
import type { Context } from "hono";
import type { z } from "zod";
import type { Environment } from "./environment.js";
import { ApiError } from "./error.js";

/**
 * The JSON of a request's body, as the schema has it.
 * @throws ApiError 400 for a body that is not JSON in UTF-8 or does not fit the schema (it names the field), 413 for
 *   one that is too large, 415 for another media type: a page of another origin can send those without asking first
 */
export async function readJson<Schema extends z.ZodType>(c: Context<Environment>, schema: Schema): Promise<z.output<Schema>> {
  const type = c.req.header("content-type")?.split(";")[0]!.trim().toLowerCase();
  if (type !== "application/json") {
    throw new ApiError(415, "The body's media type is not application/json; send the header content-type: application/json.", { code: "unsupported_media_type" });
  }
  return parseBody(await readBytes(c), schema);
}

/** Off Node's own stream: a body that is too large is left where it is, and the server closes the connection in time. */
async function readBytes({ env, var: { bodyLimit_bytes } }: Context<Environment>): Promise<Buffer> {
  const tooLarge = () => new ApiError(413, `The body has more than the ${bodyLimit_bytes} bytes that this server takes.`, { code: "body_too_large" });
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
    throw new ApiError(400, "The body broke off before its end.", { cause });
  }
  return Buffer.concat(parts);
}

/** Each step takes some ten milliseconds for the largest body: others have the thread in between. */
async function parseBody<Schema extends z.ZodType>(bytes: Buffer, schema: Schema): Promise<z.output<Schema>> {
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
  if (parsed.success) return parsed.data;
  throw refusal(parsed.error.issues);
}

type Issue = z.core.$ZodIssue;

/** Longest part of a client's own words that an error quotes. */
const QUOTED = 100;

/** Of several faults the first, as OpenAI has it. */
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

/** Of a union, the fault of the alternative that comes nearest: the one whose fault lies deepest. */
function innermost(issue: Issue, before: readonly PropertyKey[]): { issue: Issue; path: readonly PropertyKey[] } {
  const path = [...before, ...issue.path];
  if (issue.code !== "invalid_union") return { issue, path };
  const inner = issue.errors.flatMap(([first]) => (first ? [innermost(first, path)] : []));
  const deepest = inner.sort((a, b) => b.path.length - a.path.length)[0];
  return deepest && deepest.path.length > path.length ? deepest : { issue, path };
}

/** `messages[0].content`, as OpenAI names a field. */
function fieldName(path: readonly PropertyKey[]): string {
  return path.map((key) => (typeof key === "number" ? `[${key}]` : `.${String(key)}`)).join("").replace(/^\./, "");
}

function quoted(text: string): string {
  return text.length > QUOTED ? `${text.slice(0, QUOTED)}…` : text;
}
