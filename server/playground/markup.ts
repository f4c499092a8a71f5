import { z } from "zod";
import { type BlockSource, KvspliceError, withoutCache } from "../../engine/index.js";
import { Pace } from "../../plan/index.js";
import {
  blockNames,
  blocksOf,
  type Compiled,
  compileMarkup,
  type Diagnostic,
  describe,
  type Layout,
  openMarkup,
  renderDiagnostics,
  renderPrompt,
} from "../../pml/index.js";
import { linkTokensOf } from "../../rag/index.js";
import { ApiError } from "../error.js";
import { MARKUP_SHARE, mustFit } from "../prepare.js";
import type { Service } from "../service.js";
import type { MarkupReport } from "./events.js";
import type { MarkupFiles } from "./markup-files.js";
import { type BlockName, describePieces } from "./pieces.js";
import type { Prepared } from "./question.js";

/** Maximum characters of one text. It is checked on every change, and no other request runs while it is laid out. */
const MAX_TEXT = 64_000;

/** The texts of a schema and a prompt, and values for the prompt. The schema's `src` and imports are relative to `file`. */
export const markup = z.strictObject({
  schema: z.string().max(MAX_TEXT),
  prompt: z.string().max(MAX_TEXT),
  file: z.string().max(1_000).optional(),
  data: z.record(z.string(), z.unknown()).optional(),
});

export type Markup = z.infer<typeof markup>;

type CheckedMarkup = {
  readonly diagnostics: readonly Diagnostic[];
  readonly layout?: Layout;
  readonly prompt?: Compiled & { readonly nameOf: (block: BlockSource) => BlockName };
};

async function compileRequest(
  { schema, prompt, file = "schema", data }: Markup,
  service: Service,
  folder: MarkupFiles,
  signal: AbortSignal,
): Promise<CheckedMarkup> {
  const { model, limits, corpus } = service;
  const fits = { share: MARKUP_SHARE, signal };
  await mustFit(schema, "schema", service, fits);
  await mustFit(prompt, "prompt", service, fits);
  const pace = new Pace(signal);
  const opened = openMarkup(schema, { kind: "schema", file: "schema", files: folder.files, from: file });
  await pace.breathe();
  const texts = [opened, openMarkup(prompt, { kind: "prompt", file: "prompt", files: folder.files })];
  await pace.breathe();
  const refs = new Map<BlockSource, string>();
  const documents = (ref: string): BlockSource => {
    const block = corpus.blockOf(ref);
    refs.set(block, ref);
    return block;
  };
  const { tokenizer, chat } = model;
  const language = { tokenizer, chat, contextLength: limits.contextTokens, linkTokens: linkTokensOf(model) };
  const { files, diagnostics } = compileMarkup(texts, { language, documents, ...(data && { data }) });
  const [{ layout } = {}, { compiled } = {}] = files;
  const names = layout && blockNames(layout);
  const nameOf = (block: BlockSource) => ({ label: names?.get(block) ?? refs.get(block) ?? "" });
  return { diagnostics, ...(layout && { layout }), ...(compiled && { prompt: { ...compiled, nameOf } }) };
}

/** The report for the page. */
export async function reportMarkup(text: Markup, service: Service, folder: MarkupFiles, signal: AbortSignal): Promise<MarkupReport> {
  const { diagnostics, layout, prompt } = await compileRequest(text, service, folder, signal);
  return {
    diagnostics,
    ...(layout && { layout: { length: layout.length, blocks: blocksOf(layout).length, tree: describe(layout, prompt) } }),
    ...(prompt && {
      prompt: {
        pieces: await describePieces(prompt.plan, { model: service.model }, prompt.nameOf),
        parts: renderPrompt(prompt),
        end: prompt.end,
      },
    }),
  };
}

/** @throws KvspliceError `bad_markup` with all diagnostics if there is an error */
export async function prepareMarkup(text: Markup, service: Service, folder: MarkupFiles, signal: AbortSignal): Promise<Prepared> {
  const { diagnostics, prompt } = await compileRequest(text, service, folder, signal);
  if (!prompt) throw new KvspliceError("bad_markup", `Fix these errors in the markup first:\n${renderDiagnostics(diagnostics)}`);
  const { plan, nameOf } = prompt;
  const rest = { citations: [], maxNewTokens: answerTokens(prompt.end, service), stop: [], retrieve_ms: 0 };
  return {
    plan: { type: "plan", retrieve_ms: 0, pieces: await describePieces(plan, service, nameOf), sources: [], found: true, dropped: 0 },
    runners: [
      { name: "spliced", prompt: { plan, ...rest, ...(service.link && { link: service.link }) }, sampling: {} },
      { name: "full", prompt: { plan: withoutCache(plan), ...rest }, sampling: {} },
    ],
  };
}

/** @throws ApiError 400 if the server's context has no room for an answer after the prompt's end */
function answerTokens(end: number, { model, limits }: Service): number {
  const room = limits.contextTokens - end;
  if (room < 1) {
    throw new ApiError(
      400,
      `This server's context holds ${limits.contextTokens} tokens, and the prompt ends at ${end}. Include fewer modules.`,
      { code: "context_length_exceeded" },
    );
  }
  return Math.min(model.card.maxAnswerTokens, room);
}
