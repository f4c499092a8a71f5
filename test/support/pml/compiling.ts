import {
  type Compiled,
  type CompileOptions,
  compilePrompt,
  type Files,
  type Layout,
  type LayoutOptions,
  layoutSchema,
  parsePrompt,
  readSchema,
  type Schema,
  throwOnErrors,
} from "../../../pml/index.js";
import { chat, type ReadPiece, read, wordTokenizer } from "./words.js";

/** Files in a map, each reached by its name from anywhere. */
export function mapFiles(files: Readonly<Record<string, string>>): Files {
  return {
    read: (path) =>
      Object.hasOwn(files, path)
        ? { file: path, bytes: new TextEncoder().encode(files[path]) }
        : { problem: "unreadable-file", message: `cannot read \`${path}\`: there is no such file` },
  };
}

export function schemaOf(markup: string, files: Readonly<Record<string, string>> = {}): Schema {
  const { schema, diagnostics } = readSchema("schema.pml", { files: mapFiles({ ...files, "schema.pml": markup }) });
  throwOnErrors(diagnostics);
  if (!schema) throw new Error("no schema");
  return schema;
}

export function layoutOf(schema: Schema | string, options: Partial<LayoutOptions> = {}): Layout {
  const tree = typeof schema === "string" ? schemaOf(schema) : schema;
  const { layout, diagnostics } = layoutSchema(tree, { tokenizer: wordTokenizer(), chat, ...options });
  throwOnErrors(diagnostics);
  if (!layout) throw new Error("no layout");
  return layout;
}

export function compiledOf(layout: Layout, markup: string, options?: CompileOptions): Compiled {
  const { prompt, diagnostics } = parsePrompt(markup, { file: "prompt.pml" });
  throwOnErrors(diagnostics);
  if (!prompt) throw new Error("no prompt");
  const { compiled, diagnostics: compiling } = compilePrompt(layout, prompt, options);
  throwOnErrors(compiling);
  if (!compiled) throw new Error("not compiled");
  return compiled;
}

/** The pieces of a prompt, in readable form. */
export function piecesOf(schema: Schema | string, prompt: string, options?: CompileOptions): ReadPiece[] {
  const layout = layoutOf(schema);
  return read(compiledOf(layout, prompt, options).plan, layout.options.tokenizer);
}
