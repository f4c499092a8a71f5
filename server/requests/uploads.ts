import type { Context } from "hono";
import { z } from "zod";
import { readBody, readBytes } from "../body.js";
import type { Environment } from "../environment.js";
import { ApiError } from "../error.js";
import type { Upload } from "../uploads.js";
import { objectOf } from "./object.js";

const MAX_FILES = 1_000;

function textsRequest(strict: boolean) {
  const object = objectOf(strict);
  const text = object({ name: z.string().optional(), title: z.string().max(1_000).optional(), text: z.string().min(1) }).refine(
    ({ name, title }) => (name ?? title ?? "") !== "",
    { path: ["name"], message: "expected a name or a title" },
  );
  return object({ documents: z.array(text).min(1).max(MAX_FILES), stream: z.boolean().nullish() });
}

/** What a client adds: files from a form, or texts from JSON. */
export type Addition = { readonly files: readonly Upload[]; readonly stream: boolean };

/**
 * @throws ApiError as `readBody`, and 400 for a form without files, 403 for a form from a page of another origin, which
 *   browsers send without a preflight request
 */
export async function readUploads(
  c: Context<Environment>,
  { strict, corsOrigins }: { readonly strict: boolean; readonly corsOrigins: readonly string[] },
): Promise<Addition> {
  const type = c.req.header("content-type") ?? "";
  const wanted = c.req.query("stream") === "true";
  if (!/^multipart\/form-data\b/i.test(type)) {
    const { documents, stream } = (await readBody(c, textsRequest(strict))).request;
    return { files: documents.map(asFile), stream: stream === true || wanted };
  }
  mustBeOwnPage(c, corsOrigins);
  const bytes = await readBytes(c);
  const form = await new Response(bytes, { headers: { "content-type": type } }).formData().catch((cause: unknown) => {
    throw new ApiError(400, "The body is not a multipart/form-data form.", { cause });
  });
  const files = [...form.values()].filter((value) => typeof value !== "string");
  if (files.length === 0 || files.length > MAX_FILES)
    throw new ApiError(400, `Expected 1 to ${MAX_FILES} files in the form, each with a name.`, { code: "invalid_value" });
  return {
    files: await Promise.all(files.map(async (file) => ({ name: file.name, bytes: new Uint8Array(await file.arrayBuffer()) }))),
    stream: wanted,
  };
}

function mustBeOwnPage(c: Context<Environment>, corsOrigins: readonly string[]): void {
  const origin = c.req.header("origin");
  if (origin === undefined || corsOrigins.includes("*") || corsOrigins.includes(origin)) return;
  if (URL.canParse(origin) && new URL(origin).host === c.req.header("host")) return;
  throw new ApiError(403, "Pages of other origins may not send files. Allow an origin with --cors-origin.", {
    code: "origin_not_allowed",
  });
}

/** A text as a file that includes its title. */
function asFile({
  name,
  title,
  text,
}: {
  readonly name?: string | undefined;
  readonly title?: string | undefined;
  readonly text: string;
}): Upload {
  const content = title === undefined ? text : `# ${title.replace(/\s+/g, " ")}\n\n${text}`;
  return {
    name:
      name ??
      `${
        title!
          .replace(/[^\p{L}\p{N}]+/gu, "-")
          .replace(/^-|-$/g, "")
          .slice(0, 100) || "untitled"
      }.md`,
    bytes: new TextEncoder().encode(content),
  };
}
