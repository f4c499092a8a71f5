import { createHash } from "node:crypto";

import { fakeModel } from "../rag/fakes.js";

/** A fake model whose blocks differ from those with another salt. */
export function saltedModel(salt: string, overrides: Parameters<typeof fakeModel>[0] = {}) {
  const id = createHash("sha256").update(salt).digest("hex");
  return fakeModel({ id, keyOf: ({ tokens }) => createHash("sha256").update(id).update(tokens.join()).digest("hex"), ...overrides });
}
