import { CallReader, callGrammar, type Tool, type ToolChat, type ToolChoice, withTools } from "../chat/index.js";
import { type Grammar, KvspliceError } from "../engine/index.js";
import { type GrammarSource, type Schema, schemaOf } from "../grammar/index.js";
import { ApiError } from "./error.js";
import type { ChatRequest } from "./requests/chat.js";
import type { Service } from "./service.js";

/** The tools of a request: how the model is told about them, and how its calls are read. */
export type ToolUse = ToolChat & { reader(): CallReader };

/** Constraints on an answer, and warnings about those that cannot be enforced. */
export type Constrained = { readonly tools?: ToolUse; readonly grammar?: Grammar; readonly warnings: readonly string[] };

/**
 * The tools and format of a request.
 * @throws ApiError 400 for a schema that cannot be enforced; the message names the keyword
 */
export async function constrained(request: ChatRequest, service: Service, signal: AbortSignal): Promise<Constrained> {
  const format = await formatOf(request, service, signal);
  const choice = choiceOf(request);
  const overDocuments = request.corpus !== undefined || request.documents != null || request.schema != null;
  if (choice === undefined || overDocuments) {
    const warnings = choice === undefined ? [] : ["'tools' is ignored: answers over documents cannot call functions."];
    return { ...(format && { grammar: await compiled(ofSchema(format), "response_format", service, signal) }), warnings };
  }
  const told = toolsOf(request);
  const { tokenizer, chat } = service.model;
  const toolChat = mustBeTaken("tools", () => withTools(chat, told, tokenizer));
  const tools: ToolUse = { ...toolChat, reader: () => new CallReader(toolChat.form, new Set(told.map(({ name }) => name))) };
  const { held, warnings } = await heldTools(request, service, signal);
  const text = callGrammar({
    form: toolChat.form,
    tools: held,
    choice,
    parallel: request.parallel_tool_calls !== false,
    ...(format && { otherwise: schemaOf(format) }),
  });
  if (text === undefined) return { tools, warnings };
  return { tools, grammar: await compiled({ kind: "lark", text }, "tools", service, signal), warnings };
}

async function formatOf({ response_format }: ChatRequest, service: Service, signal: AbortSignal): Promise<Schema | undefined> {
  if (response_format == null || response_format.type === "text") return undefined;
  if (response_format.type === "json_object") return { type: "object" };
  const { schema } = response_format.json_schema;
  await compiled(ofSchema(schema), "response_format", service, signal);
  return schema;
}

function choiceOf({ tools, tool_choice }: ChatRequest): ToolChoice | undefined {
  if (!tools?.length || tool_choice === "none") return undefined;
  if (typeof tool_choice === "object" && tool_choice !== null) return { name: tool_choice.function.name };
  return tool_choice ?? "auto";
}

function toolsOf({ tools }: ChatRequest): readonly Tool[] {
  return tools!.map(({ function: { name, description, parameters } }) => ({
    name,
    ...(description != null && { description }),
    ...(parameters != null && { parameters }),
  }));
}

/** The tools, with arguments that a grammar can enforce: any object for tools that are not strict and whose schema it cannot. */
async function heldTools(
  request: ChatRequest,
  service: Service,
  signal: AbortSignal,
): Promise<{ readonly held: readonly Tool[]; readonly warnings: readonly string[] }> {
  const warnings: string[] = [];
  const held: Tool[] = [];
  for (const [i, tool] of toolsOf(request).entries()) {
    try {
      if (tool.parameters) await service.corpus.grammars.ofSchema(tool.parameters, { signal });
      held.push({ ...tool, parameters: schemaOf(tool.parameters ?? ANY_OBJECT) });
    } catch (error) {
      if (!(error instanceof KvspliceError) || error.code !== "bad_argument") throw error;
      if (request.tools![i]!.function.strict === true) throw refusedSchema(`tools[${i}].function.parameters`, error);
      warnings.push(`The arguments of '${tool.name}' can be any object: ${error.message}`);
      held.push({ ...tool, parameters: schemaOf(ANY_OBJECT) });
    }
  }
  return { held, warnings };
}

const ANY_OBJECT = { type: "object" };

function ofSchema(schema: Schema): GrammarSource {
  return { kind: "json_schema", text: JSON.stringify(schemaOf(schema)) };
}

async function compiled(source: GrammarSource, param: string, { corpus: { grammars } }: Service, signal: AbortSignal): Promise<Grammar> {
  try {
    return await grammars.of(source, { signal });
  } catch (error) {
    if (error instanceof KvspliceError && error.code === "bad_argument") throw refusedSchema(param, error);
    throw error;
  }
}

function mustBeTaken<T>(param: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (error instanceof KvspliceError && error.code === "bad_argument") throw refusedSchema(param, error);
    throw error;
  }
}

function refusedSchema(param: string, cause: KvspliceError): ApiError {
  return new ApiError(400, cause.message, { param, code: "invalid_value", cause });
}
