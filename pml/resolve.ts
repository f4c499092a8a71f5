import { dirname, join } from "node:path";
import { type Diagnostic, type DiagnosticList, diagnosticList } from "./diagnostic.js";
import type { Files } from "./files.js";
import { parseSchema, readSource } from "./parse.js";
import { contentBeside } from "./scope.js";
import { attributeSpans, type Span } from "./source.js";
import type { Comment, FileText, Import, Module, Schema, SchemaNode, Text } from "./tree.js";

/** Files that one schema may read, counting each as often as it is named: imports of imports can double at every step. */
const MAX_FILES = 1_000;

/** Total characters of all files that one schema reads. */
const MAX_TOTAL_CHARACTERS = 64 * 1024 * 1024;

/** How the files that a schema names are read. */
export type ResolveOptions = {
  readonly files: Files;
  /** The schema's own file, which paths are relative to. */
  readonly file: string;
};

/** A schema with its files included. */
export type ResolvedSchema = { readonly schema: Schema; readonly diagnostics: readonly Diagnostic[] };

/**
 * The schema with its files included: imports are replaced by the modules, unions, scaffolds and variables of the
 * other schema, each `src` by the file's text. Never throws unless `files` does.
 */
export function resolveSchema(schema: Schema, { files, file }: ResolveOptions): ResolvedSchema {
  const list = diagnosticList();
  const resolver: Resolver = { ...list, files, filesLeft: MAX_FILES, charactersLeft: MAX_TOTAL_CHARACTERS };
  const children = resolveNodes(schema.children, { file, shown: schema.origin?.source.file ?? file, chain: [file] }, resolver);
  return { schema: { ...schema, children }, diagnostics: list.diagnostics };
}

type Resolver = DiagnosticList & { readonly files: Files; filesLeft: number; charactersLeft: number };

/** `shown`: the file's name in diagnostics; `chain`: the files that import one another down to this one. */
type Place = { readonly file: string; readonly shown: string; readonly chain: readonly string[] };

function resolveNodes(nodes: readonly SchemaNode[], place: Place, resolver: Resolver): SchemaNode[] {
  return nodes.flatMap((node): readonly SchemaNode[] => {
    switch (node.kind) {
      case "import":
        return resolveImport(node, place, resolver);
      case "module":
        return [resolveModule(node, place, resolver)];
      case "union": {
        const children = node.children.map((child) => (child.kind === "module" ? resolveModule(child, place, resolver) : child));
        return [{ ...node, children }];
      }
      case "message":
        return [{ ...node, children: resolveNodes(node.children, place, resolver) }];
      default:
        return [node];
    }
  });
}

function resolveModule(module: Module, place: Place, resolver: Resolver): Module {
  const { src, origin } = module;
  if (src === undefined) return { ...module, children: resolveNodes(module.children, place, resolver) };
  const span = attributeSpans(origin, "src").value;
  if (contentBeside(module).length > 0) return module; // check.ts reports it
  const read = readFile(src, place, span, resolver);
  const source = read && readSource(read.bytes, shownFrom(place, src), resolver.report);
  const comments = module.children.filter((child): child is Comment => child.kind === "comment");
  const lineEnd = module.children.filter((child): child is Text => child.kind === "text");
  const text: FileText = { kind: "file", text: source?.text ?? "" };
  return { ...module, children: [...comments, text, ...lineEnd] };
}

function resolveImport(node: Import, place: Place, resolver: Resolver): readonly SchemaNode[] {
  const span = attributeSpans(node.origin, "schema").value;
  const read = readFile(node.schema, place, span, resolver);
  if (!read) return [];
  const cycle = place.chain.indexOf(read.file);
  if (cycle !== -1) {
    const chain = [...place.chain.slice(cycle), read.file].map((file) => `\`${file}\``).join(" imports ");
    resolver.report("import-cycle", `${chain}; remove one of these imports`, span);
    return [];
  }
  const shown = shownFrom(place, node.schema);
  const { schema, diagnostics } = parseSchema(read.bytes, { file: shown });
  resolver.append(diagnostics);
  if (!schema) return [];

  const left = schema.children.filter((child) => child.kind !== "comment" && !isImported(child));
  if (left.length > 0) {
    const others = `the text, messages and documents alongside them in \`${node.schema}\` are left out`;
    const message = `only modules, unions, scaffolds and variables are imported; ${others}`;
    resolver.report("import-leaves-out", message, span);
  }
  const imported = schema.children.filter((child) => child.kind === "import" || isImported(child));
  return resolveNodes(imported.map(withSpaceOf(schema)), { file: read.file, shown, chain: [...place.chain, read.file] }, resolver);
}

function shownFrom(place: Place, path: string): string {
  return join(dirname(place.shown), path);
}

function isImported({ kind }: SchemaNode): boolean {
  return kind === "module" || kind === "union" || kind === "scaffold" || kind === "variable" || kind === "import";
}

/** Modules keep the `xml:space` and `context` of their own schema. */
function withSpaceOf({ space = "default", context }: Schema): (node: SchemaNode) => SchemaNode {
  const spaced = <Node extends SchemaNode | Comment>(node: Node): Node =>
    node.kind === "module" ? { space, ...(context && { context }), ...node } : node;
  return (node) => (node.kind === "union" ? { ...node, children: node.children.map(spaced) } : spaced(node));
}

function readFile(path: string, place: Place, span: Span | undefined, resolver: Resolver) {
  if (resolver.filesLeft-- <= 0) {
    if (resolver.filesLeft === -1)
      resolver.report("too-large", `a schema may read at most ${MAX_FILES} files; this one is beyond that`, span);
    return undefined;
  }
  const read = resolver.files.read(path, place.file);
  if ("problem" in read) {
    resolver.report(read.problem, read.message, span);
    return undefined;
  }
  resolver.charactersLeft -= read.bytes.length;
  if (resolver.charactersLeft < 0) {
    resolver.report("too-large", `the files of this schema have more than ${MAX_TOTAL_CHARACTERS} characters in total`, span);
    return undefined;
  }
  return read;
}
