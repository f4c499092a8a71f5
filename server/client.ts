import { createHash } from "node:crypto";

/** OpenAI's fields that identify an end user, or requests that share a cache. */
export type ClientFields = {
  readonly user?: string | null | undefined;
  readonly safety_identifier?: string | null | undefined;
  readonly prompt_cache_key?: string | null | undefined;
};

/** Identifies the client of a request, by its key and these fields. */
export function clientOf(authorization: string | undefined, { user, safety_identifier, prompt_cache_key }: ClientFields): string {
  const said = [authorization, user, safety_identifier, prompt_cache_key].map((each) => each ?? null);
  return createHash("sha256").update(JSON.stringify(said)).digest("hex");
}
