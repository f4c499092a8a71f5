import { Template } from "@huggingface/jinja";
import { type CallForm, type ChatTemplate, type Frame, KvspliceError, type Role, type ThoughtTags, type Tool } from "../../plan/index.js";
import { toolTurnsOf } from "./tool-turns.js";

/** What a chat template is read from: its Jinja source, and the tokenizer's texts that it may write. */
export type ChatTemplateSource = {
  readonly source: string;
  readonly bos: string;
  readonly eos: string;
  /** Whether the tokenizer writes `bos` before a text regardless of the template. */
  readonly addBos: boolean;
};

type Message = { readonly role: Role; readonly content: string };
type Render = (messages: readonly Message[], generate: boolean) => string;
type RenderAny = (messages: readonly object[], generate: boolean) => string;

/** Separates a system message from the user's if both are in one turn. */
const FOLD = "\n\n";

const THOUGHTS: readonly ThoughtTags[] = [
  { begin: "<think>", end: "</think>" },
  { begin: "[THINK]", end: "[/THINK]" },
];

/** Signs in a template of how its model writes calls; a template that mentions tools in any other way counts as one without. */
const CALL_SIGNS: readonly (readonly [sign: string, form: CallForm])[] = [
  ["<tool_call>", "tags"],
  ["[TOOL_CALLS]", "list"],
  ["<|python_tag|>", "object"],
  ["<|start_header_id|>ipython", "object"],
];

/**
 * Finds the frames of a Jinja chat template. Whole conversations are rendered with a marker for each message's content, and
 * cut at the markers; frames that assemble a conversation differently from how the template renders it are refused. A system
 * message that the template does not accept in first position becomes the beginning of the user's turn.
 *
 * Thinking is switched off if the template has a switch for it (`enable_thinking`, `thinking`).
 *
 * @throws KvspliceError `bad_model` naming what cannot be framed
 */
export function createChatTemplate(from: ChatTemplateSource): ChatTemplate {
  const plain = framesOf(from, undefined);
  const calls = /\btools\b/.test(from.source) ? CALL_SIGNS.find(([sign]) => from.source.includes(sign))?.[1] : undefined;
  if (calls === undefined) return plain;
  const render = renderer(from, undefined);
  const tools: ChatTemplate["tools"] = {
    calls,
    turns: toolTurnsOf((messages) => render(messages, true), plain, calls),
    with: (given) => ({ ...withCatalogue(from, given, plain), tools }),
  };
  return { ...plain, tools };
}

/** Mistral's templates move the catalogue to the last question. Here it stays before the first, so that KV after it stays valid. */
function withCatalogue(from: ChatTemplateSource, tools: readonly Tool[], plain: ChatTemplate): ChatTemplate {
  try {
    return framesOf(from, tools);
  } catch (error) {
    const [told, untold] = [tools, undefined].map((given) => inItsPlace(renderer(from, given)));
    const opens = (["user", "system"] as const).map((first) => {
      const roles: readonly Role[] = first === "user" ? [first] : [first, "user"];
      const [[open, ...rest], [, ...own]] = [textsAround(told!, roles, true), textsAround(untold!, roles, true)];
      if (rest.some((text, i) => text !== own[i])) throw error;
      return [first, open!] as const;
    });
    const openOf = new Map<Role, string>(opens);
    return {
      ...plain,
      frame(role, after) {
        const frame = plain.frame(role, after);
        const open = after === undefined ? openOf.get(role) : undefined;
        return open === undefined ? frame : { open: withBos(from, open), close: frame.close };
      },
    };
  }
}

function withBos({ bos, addBos }: ChatTemplateSource, open: string): string {
  return addBos && bos !== "" && !open.startsWith(bos) ? bos + open : open;
}

/** A renderer that accepts a system message, if necessary as the beginning of the user's turn. */
function inItsPlace(render: Render): Render {
  const takesSystem = inOrder(render, ["system", "user", "assistant", "user"]) !== undefined;
  return takesSystem ? render : (messages, generate) => render(folded(messages), generate);
}

function framesOf(from: ChatTemplateSource, tools: readonly Tool[] | undefined): ChatTemplate {
  const { source, bos, addBos } = from;
  const rendered = inItsPlace(renderer(from, tools));
  const between = (roles: readonly Role[], generate: boolean) => textsAround(rendered, roles, generate);
  const inMiddle = (roles: readonly Role[]) => inOrder(rendered, roles);

  const alone = between(["user"], true);
  const talk = between(["user", "assistant", "user"], true);
  const userClose = commonStart([talk[1]!, talk[3]!, inOrder(rendered, ["user"])?.[1] ?? talk[3]!]);
  const assistantClose = commonStart([talk[2]!, inOrder(rendered, ["user", "assistant"])?.[2] ?? talk[2]!]);
  const nextUser = talk[2]!.slice(assistantClose.length);
  const assistant: Frame = { open: talk[1]!.slice(userClose.length), close: assistantClose };
  const instructed = between(["system", "user"], true);
  const systemClose = instructed[1]!.endsWith(nextUser) ? instructed[1]!.slice(0, instructed[1]!.length - nextUser.length) : instructed[1]!;

  const userOpen: Record<Role | "start", string> = {
    start: alone[0]!,
    system: instructed[1]!.slice(systemClose.length),
    assistant: nextUser,
    user: inMiddle(["user", "user"])?.[1]?.slice(userClose.length) ?? nextUser,
  };
  const later = inMiddle(["user", "assistant", "system", "user"]);
  const laterFrame = later?.[2]!.startsWith(assistantClose) &&
    later[3]!.endsWith(nextUser) && {
      open: later[2]!.slice(assistantClose.length),
      close: later[3]!.slice(0, later[3]!.length - nextUser.length),
    };
  const systemFrame = (after: Role | undefined): Frame => {
    if (after === undefined) return { open: instructed[0]!, close: systemClose };
    return laterFrame || { open: userOpen[after], close: userClose }; // a template that accepts it only at the beginning
  };

  const asked = talk[3]!.slice(userClose.length);
  // A template that opens past answers with more text than a new one lets the model choose what to open: here, an answer.
  const generationPrompt = assistant.open.startsWith(asked) && assistant.open !== asked ? assistant.open : asked;
  const tags = THOUGHTS.find(({ end }) => source.includes(end));
  const trims = new Set((["user", "assistant", "system"] as const).filter((role) => trimsContent(rendered, role)));
  const frames: ChatTemplate = {
    frame(role, after) {
      const frame =
        role === "system" ? systemFrame(after) : role === "assistant" ? assistant : { open: userOpen[after ?? "start"], close: userClose };
      return after === undefined ? { ...frame, open: withBos(from, frame.open) } : frame;
    },
    content: (role, text) => (trims.has(role) ? text.trim() : text),
    generationPrompt,
    stop: [],
    thought: tags && { ...tags, begun: generationPrompt.lastIndexOf(tags.begin) > generationPrompt.lastIndexOf(tags.end) },
  };
  for (const roles of CONVERSATIONS) mustRender(frames, roles, between(roles, true), asked, addBos ? bos : "");
  return frames;
}

/**
 * Frames for a model without a chat template, such as a base model: turns by name, which any model has read. Such a model
 * does not end its turn with a control token, so the name of the next turn ends the answer.
 */
export function plainChatTemplate(bos: string): ChatTemplate {
  const names = { system: "", user: "User: ", assistant: "Assistant: " };
  return {
    frame: (role, after) => ({ open: (after === undefined ? bos : "") + names[role], close: role === "system" ? "\n\n" : "\n" }),
    content: (_, text) => text.trim(),
    generationPrompt: "Assistant:",
    stop: ["\nUser:"],
    thought: undefined,
  };
}

/** Conversations that frames must assemble exactly as the template renders them. */
const CONVERSATIONS: readonly (readonly Role[])[] = [
  ["user"],
  ["system", "user"],
  ["user", "assistant", "user"],
  ["system", "user", "assistant", "user"],
  ["user", "assistant", "user", "assistant", "user"],
];

function renderer({ source, bos, eos }: ChatTemplateSource, tools: readonly Tool[] | undefined): RenderAny {
  let template: Template;
  try {
    template = new Template(source);
  } catch (cause) {
    throw new KvspliceError("bad_model", `The model's chat template cannot be parsed: ${messageOf(cause)}.`, { cause });
  }
  const given = tools && { tools: tools.map((tool) => ({ type: "function", function: tool })) };
  return (messages, generate) =>
    template.render({
      messages,
      add_generation_prompt: generate,
      bos_token: bos,
      eos_token: eos,
      enable_thinking: false,
      thinking: false,
      ...given,
    });
}

/** A system message at the beginning, moved into the user's turn that follows it. */
function folded(messages: readonly Message[]): readonly Message[] {
  const [first, second, ...rest] = messages;
  if (first?.role !== "system" || second?.role !== "user") return messages;
  return [{ role: "user", content: first.content + FOLD + second.content }, ...rest];
}

/** Stands in for the content of message i while the text around it is found. */
const marker = (i: number) => `\u0001${i}\u0001`;

/** The texts before, between and after the contents of a conversation. */
function textsAround(render: Render, roles: readonly Role[], generate: boolean): readonly string[] {
  let text: string;
  try {
    text = render(
      roles.map((role, i) => ({ role, content: marker(i) })),
      generate,
    );
  } catch (cause) {
    throw new KvspliceError(
      "bad_model",
      `The model's chat template does not render a conversation of ${roles.join(", ")}: ${messageOf(cause)}.`,
      { cause },
    );
  }
  const texts: string[] = [];
  let at = 0;
  for (let i = 0; i < roles.length; i++) {
    const place = text.indexOf(marker(i), at);
    if (place < 0 || text.indexOf(marker(i), place + 1) >= 0) {
      const how = text.split(marker(i)).length;
      throw new KvspliceError(
        "bad_model",
        `The model's chat template cannot be cut into messages: in a conversation of ${roles.join(", ")}, message ${i + 1} appears ${how === 2 ? "out of order" : how === 1 ? "nowhere" : "more than once"}.`,
      );
    }
    texts.push(text.slice(at, place));
    at = place + marker(i).length;
  }
  return [...texts, text.slice(at)];
}

/** `textsAround` of a conversation that the model does not answer; undefined if the template does not render it in order. */
function inOrder(render: Render, roles: readonly Role[]): readonly string[] | undefined {
  try {
    return textsAround(render, roles, false);
  } catch {
    return undefined;
  }
}

/** The longest common beginning of all texts, never cut within a control token. */
function commonStart(texts: readonly string[]): string {
  const [first = ""] = texts;
  let length = first.length;
  for (const text of texts) {
    let same = 0;
    while (same < length && text[same] === first[same]) same++;
    length = same;
  }
  const start = first.slice(0, length);
  if (texts.every((text) => text === start)) return start;
  const opened = Math.max(start.lastIndexOf("<"), start.lastIndexOf("["));
  const closed = Math.max(start.lastIndexOf(">"), start.lastIndexOf("]"));
  return opened > closed ? start.slice(0, opened) : start;
}

function trimsContent(render: Render, role: Role): boolean {
  const roles: readonly Role[] = role === "system" ? ["system", "user", "assistant", "user"] : ["user", "assistant", "user"];
  const text = (around: string) =>
    render(
      roles.map((each, i) => ({ role: each, content: each === role ? around + marker(i) + around : marker(i) })),
      true,
    );
  try {
    return text(" \n") === text("");
  } catch {
    return false;
  }
}

function mustRender(frames: ChatTemplate, roles: readonly Role[], expected: readonly string[], asked: string, bos: string): void {
  const texts = roles.map((role, i) => frames.frame(role, roles[i - 1]));
  const own = [texts[0]!.open, ...texts.map(({ close }, i) => close + (texts[i + 1]?.open ?? asked))];
  const start = own[0]! === expected[0]! || own[0]! === bos + expected[0]!;
  const different = start ? own.findIndex((text, i) => i > 0 && text !== expected[i]) : 0;
  if (different < 0) return;
  throw new KvspliceError(
    "bad_model",
    `The model's chat template writes the text before message ${different + 1} differently in a conversation of ${roles.join(", ")} than ` +
      `in others, so messages cannot be separated: ${JSON.stringify(expected[different])}, elsewhere ${JSON.stringify(own[different])}.`,
  );
}

function messageOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).replace(/\.$/, "");
}
