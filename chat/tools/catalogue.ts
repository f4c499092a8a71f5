import { type ChatTemplate, callStart, KvspliceError, type Tokenizer, type Tool } from "../../plan/index.js";
import type { ToolForm } from "./spoken.js";

/** A chat template that begins with a catalogue of tools, and how its model writes calls. */
export type ToolChat = ToolForm & { readonly chat: ChatTemplate };

/**
 * The template's own catalogue, if it supports tools. Other models get the tools in their system message and write calls
 * between tags.
 * @throws KvspliceError `bad_argument` if a tool's text contains one of the model's control tokens
 */
export function withTools(chat: ChatTemplate, tools: readonly Tool[], tokenizer: Pick<Tokenizer, "encode">): ToolChat {
  for (const tool of tools) mustBeText(tool, tokenizer);
  if (chat.tools) {
    try {
      return { chat: chat.tools.with(tools), ...toolForm(chat) };
    } catch (error) {
      if (!(error instanceof KvspliceError)) throw error; // otherwise the template cannot be cut with tools in it
    }
  }
  return { chat: toldInWords(chat, tools), form: "tags", turns: undefined };
}

/** How a model writes calls in a conversation without a catalogue. */
export function toolForm({ tools }: ChatTemplate): ToolForm {
  return { form: tools?.calls ?? "tags", turns: tools?.turns };
}

/** The catalogue is control text, in which a spelled-out control token would take effect. */
function mustBeText(tool: Tool, tokenizer: Pick<Tokenizer, "encode">): void {
  const text = JSON.stringify(tool);
  const [plain, control] = [tokenizer.encode(text), tokenizer.encode(text, { control: true })];
  if (plain.length === control.length && plain.every((id, i) => id === control[i])) return;
  throw new KvspliceError(
    "bad_argument",
    `The tool '${tool.name}' contains a control token of the model; remove it from its name, description and parameters.`,
  );
}

function toldInWords(chat: ChatTemplate, tools: readonly Tool[]): ChatTemplate {
  const words = `You may call functions. Each is given as a JSON object with its name, its description and the JSON Schema of its arguments:
<tools>
${tools.map((tool) => JSON.stringify(tool)).join("\n")}
</tools>
To call one, write nothing but its name and arguments as a JSON object between tags:
<tool_call>
${callStart("tags", "NAME")}{...}}
</tool_call>`;
  return {
    ...chat,
    frame(role, after) {
      const own = chat.frame(role, after);
      if (after !== undefined) return own;
      if (role === "system") return { open: own.open, close: `\n\n${words}${own.close}` };
      const system = chat.frame("system", undefined);
      const first = chat.frame(role, "system");
      return { open: `${system.open}${words}${system.close}${first.open}`, close: first.close };
    },
  };
}
