import { type BlockSource, KvspliceError } from "../plan/index.js";
import { type Diagnostic, diagnosticList, type Report } from "./diagnostic.js";
import { attributeSpans } from "./source.js";
import type { DocumentSlot, Schema, SchemaNode } from "./tree.js";

/**
 * The block of a document by its `ref`, such as a corpus's `blockOf`. For an unknown ref it returns undefined,
 * or throws a KvspliceError `unknown_document` whose message suggests what was likely meant.
 */
export type Documents = (ref: string) => BlockSource | undefined;

/** A missing document is reported as `unknown-document` at its `ref`. */
export function findDocument(documents: Documents | undefined, { ref, origin }: DocumentSlot, report: Report): BlockSource | undefined {
  const unknown = (message: string) => void report("unknown-document", message, attributeSpans(origin, "ref").value);
  try {
    const block = documents?.(ref);
    if (!block) unknown(`there is no document \`${ref}\``);
    return block;
  } catch (error) {
    if (!(error instanceof KvspliceError) || error.code !== "unknown_document") throw error;
    unknown(error.message);
    return undefined;
  }
}

/** Checks all of a schema's documents, even those that no prompt includes. */
export function checkDocuments(schema: Schema, documents: Documents): readonly Diagnostic[] {
  const { diagnostics, report } = diagnosticList();
  const check = (nodes: readonly SchemaNode[]) => {
    for (const node of nodes) {
      if (node.kind === "document") findDocument(documents, node, report);
      else if ("children" in node) check(node.children);
    }
  };
  check(schema.children);
  return diagnostics;
}
