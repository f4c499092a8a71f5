import { createHash } from "node:crypto";
import {
  type CallForm,
  type ChatTemplate,
  type Framed,
  KvspliceError,
  type NamedCall,
  type ToolTurns,
  writeCalls,
} from "../../plan/index.js";

/** Renders messages in the form that chat templates take, up to where the model answers. */
export type RenderAny = (messages: readonly object[]) => string;

/** The length that Mistral's templates require. */
const ID_CHARACTERS = 9;

const QUESTION = "A question";
const NAME = "probed_function";
const IDS = ["callaaaa1", "callbbbb2"] as const;
const CALLS: readonly NamedCall[] = IDS.map((id) => ({ name: NAME, arguments: '{"a": "b"}', id }));
/** Templates differ in what they make of these: white space, quotes, non-ASCII characters. */
const RESULTS = [' 22 "degrees", sunny\nü ', ' 23 "degrees", cloudy\nö '] as const;
const ENCODINGS: readonly ((content: string) => string)[] = [
  (content) => content,
  (content) => content.trim(), // after the one before, because trimmed text is part of that
  (content) => JSON.stringify(content),
  (content) => JSON.stringify(content.trim()),
];

/**
 * Finds how a template writes an answer's calls and their results, by rendering some. Undefined if it does not write the
 * model's calls in this form, or does not write results in separable turns; results then go into the user's turn.
 */
export function toolTurnsOf(render: RenderAny, chat: ChatTemplate, form: CallForm): ToolTurns | undefined {
  const tried = (messages: readonly object[]) => attempt(() => render(messages));
  const user = chat.frame("user", undefined);
  const { open: answerOpen, close: answerClose } = chat.frame("assistant", "user");
  const before = user.open + chat.content("user", QUESTION) + user.close + answerOpen;
  const question = { role: "user", content: QUESTION };

  const one = tried([question, asking("", 1), result(0)]);
  const cut = one?.startsWith(before) ? cutAtCalls(one.slice(before.length), form) : undefined;
  if (!cut?.rest.startsWith(answerClose)) return undefined;
  const { callsOpen, withIds } = cut;
  const first = cutAtResult(cut.rest.slice(answerClose.length), RESULTS[0]);
  if (!first?.rest.endsWith(chat.generationPrompt)) return undefined;
  const { encode } = first;
  const close = first.rest.slice(0, first.rest.length - chat.generationPrompt.length);

  const written = (calls: readonly NamedCall[]) => writeCalls(form, "", calls, withIds ? calls.map(({ id }) => shortId(id)) : []);
  const many = tried([question, asking("", 2), result(0), result(1)]);
  const single = many === undefined;
  const two = many ?? tried([question, asking("", 1), result(0), result(1)]);
  const start = before + callsOpen + written(CALLS.slice(0, single ? 1 : 2)) + answerClose + first.open + encode(RESULTS[0]) + close;
  const second = two?.startsWith(start) ? cutAtResult(two.slice(start.length), RESULTS[1]) : undefined;
  if (second?.rest !== withId(close, IDS[0], IDS[1]) + chat.generationPrompt) return undefined;
  const laterOpen = withId(second.open, IDS[1], IDS[0]);
  if ([callsOpen, first.open, close, laterOpen].some((text) => text.includes(NAME))) return undefined; // results have no names

  const turns: ToolTurns = {
    calls(calls) {
      if (single && calls.length > 1) throw tooManyCalls(calls);
      return { open: callsOpen, text: written(calls), close: "" };
    },
    result(content, id, isFirst) {
      const frame = (text: string) => withId(text, IDS[0], shortId(id));
      return { open: frame(isFirst ? first.open : laterOpen), text: encode(content), close: frame(close) };
    },
  };
  const saysNothing = tried([question, asking("Some words", 1), result(0)]) === one;
  return saysNothing && goesOn(turns, chat, tried) ? turns : undefined;
}

/** Whether what follows a result is as it would be after an answer: an answer, and another question. */
function goesOn(turns: ToolTurns, chat: ChatTemplate, tried: (messages: readonly object[]) => string | undefined): boolean {
  const [question, answer, another] = [
    { role: "user", content: QUESTION },
    { role: "assistant", content: "An answer" },
    { role: "user", content: "Another" },
  ];
  const rendered = tried([question!, asking("", 1), result(0), answer!, another!]);
  const { open, close } = chat.frame("assistant", "user");
  const texts: readonly Framed[] = [
    { ...chat.frame("user", undefined), text: chat.content("user", QUESTION) },
    { open: "", text: open, close: "" },
    turns.calls(CALLS.slice(0, 1)),
    { open: "", text: close, close: "" },
    turns.result(RESULTS[0], IDS[0], true),
    { open, text: chat.content("assistant", "An answer"), close },
    { ...chat.frame("user", "assistant"), text: chat.content("user", "Another") },
  ];
  return rendered === texts.map((each) => each.open + each.text + each.close).join("") + chat.generationPrompt;
}

function asking(content: string, calls: 1 | 2): object {
  const tool_calls = CALLS.slice(0, calls).map(({ id, name, arguments: given }) => ({
    id,
    type: "function",
    function: { name, arguments: JSON.parse(given) as object },
  }));
  return { role: "assistant", content, tool_calls };
}

function result(call: 0 | 1): object {
  return { role: "tool", content: RESULTS[call], tool_call_id: IDS[call], name: NAME };
}

type CutAtCalls = { readonly callsOpen: string; readonly withIds: boolean; readonly rest: string };
type CutAtResult = { readonly open: string; readonly encode: (content: string) => string; readonly rest: string };

/** The text before a call, and after it. */
function cutAtCalls(text: string, form: CallForm): CutAtCalls | undefined {
  for (const ids of [[IDS[0]], []]) {
    const calls = writeCalls(form, "", CALLS.slice(0, 1), ids);
    const at = text.indexOf(calls);
    if (at >= 0) return { callsOpen: text.slice(0, at), withIds: ids.length > 0, rest: text.slice(at + calls.length) };
  }
  return undefined;
}

/** The same for a result, and how its text is written. */
function cutAtResult(text: string, content: string): CutAtResult | undefined {
  for (const encode of ENCODINGS) {
    const encoded = encode(content);
    const at = text.indexOf(encoded);
    if (at >= 0) return { open: text.slice(0, at), encode, rest: text.slice(at + encoded.length) };
  }
  return undefined;
}

function withId(text: string, probe: string, id: string): string {
  return text.replaceAll(probe, id);
}

/** An id in the form allowed in control text: unchanged if it is nine letters and digits, otherwise a hash of it. */
function shortId(id: string): string {
  return /^[A-Za-z0-9]{9}$/.test(id) ? id : createHash("sha256").update(id).digest("hex").slice(0, ID_CHARACTERS);
}

function tooManyCalls(calls: readonly NamedCall[]): KvspliceError {
  const names = calls.map(({ name }) => name).join(", ");
  return new KvspliceError(
    "bad_argument",
    `This model's chat template takes one call per assistant message, but one message has ${calls.length} (${names}). ` +
      "Send each call in a separate message, followed by its result.",
  );
}

function attempt(render: () => string): string | undefined {
  try {
    return render();
  } catch {
    return undefined;
  }
}
