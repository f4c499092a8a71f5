import { z } from "zod";
import { type BlockSource, KvspliceError, withoutCache } from "../../engine/index.js";
import { blocksOf, compileMarkup, type Compiled, describe, type Diagnostic, type Layout, type ModuleLayout, openMarkup, renderDiagnostics, renderPrompt } from "../../pml/index.js";
import { linkTokensOf } from "../../rag/index.js";
import type { Service } from "../service.js";
import type { MarkupReport } from "./events.js";
import type { MarkupFiles } from "./markup-files.js";
import { describePieces, type BlockName } from "./pieces.js";
import type { Prepared } from "./question.js";

/** Characters of one text: it is checked whole while it is written. */
const MAX_TEXT = 200_000;

/** A schema and a prompt as texts; `file` is where the schema's `src` and imports are relative to. */
export const markup = z.strictObject({ schema: z.string().max(MAX_TEXT), prompt: z.string().max(MAX_TEXT), file: z.string().max(1_000).optional() });

export type Markup = z.infer<typeof markup>;

type CheckedMarkup = {
  readonly diagnostics: readonly Diagnostic[];
  readonly layout?: Layout;
  readonly prompt?: Compiled & { readonly nameOf: (block: BlockSource) => BlockName };
};

function checkMarkup({ schema, prompt, file = "schema" }: Markup, { model, limits, corpus }: Service, folder: MarkupFiles): CheckedMarkup {
  const texts = [
    openMarkup(schema, { kind: "schema", file: "schema", files: folder.files, from: file }),
    openMarkup(prompt, { kind: "prompt", file: "prompt", files: folder.files }),
  ];
  const refs = new Map<BlockSource, string>();
  const documents = (ref: string): BlockSource => {
    const block = corpus.blockOf(ref);
    refs.set(block, ref);
    return block;
  };
  const { tokenizer, chat } = model;
  const language = { tokenizer, chat, contextLength: limits.contextTokens, linkTokens: linkTokensOf(model) };
  const { files, diagnostics } = compileMarkup(texts, { language, documents });
  const [{ layout } = {}, { compiled } = {}] = files;
  const names = layout && namesOf(layout);
  const nameOf = (block: BlockSource) => ({ label: names?.get(block) ?? refs.get(block) ?? "" });
  return { diagnostics, ...(layout && { layout }), ...(compiled && { prompt: { ...compiled, nameOf } }) };
}

/** What the page shows of it. */
export async function reportMarkup(text: Markup, service: Service, folder: MarkupFiles): Promise<MarkupReport> {
  const { diagnostics, layout, prompt } = checkMarkup(text, service, folder);
  return {
    diagnostics,
    ...(layout && { layout: { length: layout.length, blocks: blocksOf(layout).length, tree: describe(layout, prompt) } }),
    ...(prompt && { prompt: { pieces: await describePieces(prompt.plan, { model: service.model }, prompt.nameOf), parts: renderPrompt(prompt), end: prompt.end } }),
  };
}

/** @throws KvspliceError `bad_markup` with all diagnostics where there is an error */
export async function prepareMarkup(text: Markup, service: Service, folder: MarkupFiles): Promise<Prepared> {
  const { diagnostics, prompt } = checkMarkup(text, service, folder);
  if (!prompt) throw new KvspliceError("bad_markup", `Mend the markup first:\n${renderDiagnostics(diagnostics)}`);
  const { plan, nameOf } = prompt;
  return {
    plan: { type: "plan", retrieve_ms: 0, pieces: await describePieces(plan, service, nameOf), sources: [] },
    runners: [
      { name: "spliced", plan },
      { name: "full", plan: withoutCache(plan) },
    ],
  };
}

/** Modules and scaffolds by their blocks. */
function namesOf(layout: Layout): Map<BlockSource, string> {
  const names = new Map<BlockSource, string>(layout.scaffolds.map(({ block, path }) => [block, `scaffold ${path}`]));
  const visit = ({ block, path, parts }: ModuleLayout): void => {
    if (block) names.set(block.block, path === "" ? layout.schema.name : path);
    for (const part of parts) {
      if (part.kind === "module") visit(part.module);
      if (part.kind === "union") part.members.forEach(visit);
    }
  };
  visit(layout.root);
  return names;
}
