import { dirname } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Command } from "commander";
import { globSync } from "tinyglobby";
import {
  CompletionItemKind,
  createConnection,
  DiagnosticSeverity,
  type Diagnostic as LspDiagnostic,
  type Position,
  ProposedFeatures,
  type Range,
  TextDocumentSyncKind,
  TextDocuments,
} from "vscode-languageserver/node";
import { TextDocument } from "vscode-languageserver-textdocument";
import {
  compileMarkup,
  completionsAt,
  type Description,
  type Diagnostic,
  definitionOf,
  describe,
  draftOf,
  folderFiles,
  formatPml,
  hasErrors,
  type Markup,
  openMarkup,
  type Place,
  parseMarkup,
  placeOf,
  readMarkup,
  referenceAt,
  type Schema,
} from "../pml/index.js";
import { loadLanguage, type ModelOptions, modelOption } from "./model.js";
import { languageOf } from "./pml-files.js";

export function pmlLspCommand(): Command {
  return new Command("lsp")
    .description("serve editors with the Language Server Protocol over standard input and output")
    .option("--stdio", "added by editors; the only transport")
    .addOption(modelOption())
    .addHelpText(
      "after",
      `
Offers diagnostics, completion, hover with tokens and positions, definitions and
formatting. The package contains an extension for VS Code in editors/vscode;
docs/pml.md shows how to start the server from other editors.

Examples:
  $ kvsplice pml lsp --stdio`,
    )
    .action(serve);
}

/** Maximum files of a workspace that are searched for a prompt's schema. */
const MAX_FILES = 500;

/** Wait after the last keystroke. */
const PAUSE_MS = 150;

const KINDS = {
  element: CompletionItemKind.Keyword,
  module: CompletionItemKind.Module,
  attribute: CompletionItemKind.Property,
  parameter: CompletionItemKind.Variable,
  value: CompletionItemKind.Value,
} as const;

async function serve(options: ModelOptions): Promise<void> {
  const language = languageOf(await loadLanguage(options, undefined));
  const connection = createConnection(ProposedFeatures.all, process.stdin, process.stdout);
  const documents = new TextDocuments(TextDocument);
  const roots = new Set<string>();

  /** A file's markup: from the editor if it is open there, otherwise from disk. */
  const markupOf = (file: string): Markup => {
    const open = documents.get(pathToFileURL(file).href);
    return open ? openMarkup(open.getText(), { file, files: folderFiles(dirname(file)) }) : readMarkup(file);
  };
  /** The schemas of the workspace and of the file's folder, by name. The first schema of a name counts. */
  const schemasNear = (file: string): Map<string, { readonly file: string; readonly schema: Schema; readonly markup: Markup }> => {
    const folders = [dirname(file), ...roots];
    const files = folders.flatMap((cwd) =>
      globSync("**/*.pml", { cwd, absolute: true, ignore: ["**/node_modules/**"] }).slice(0, MAX_FILES),
    );
    const opened = documents
      .all()
      .filter(({ uri }) => uri.startsWith("file:"))
      .map(({ uri }) => fileURLToPath(uri));
    const schemas = new Map<string, { readonly file: string; readonly schema: Schema; readonly markup: Markup }>();
    for (const each of new Set([...opened, ...files])) {
      const markup = markupOf(each);
      const draft = markup.kind === "unknown" ? draftOf(documents.get(pathToFileURL(each).href)?.getText() ?? "", each).schema : undefined;
      const schema = markup.kind === "schema" ? markup.schema : draft;
      if (schema && !schemas.has(schema.name)) schemas.set(schema.name, { file: each, schema, markup });
    }
    return schemas;
  };
  const schemaOf = (name: string, file: string) => schemasNear(file).get(name);

  const check = (document: TextDocument): LspDiagnostic[] => {
    const file = fileURLToPath(document.uri);
    const markup = markupOf(file);
    const schema = markup.kind === "prompt" ? schemaOf(markup.prompt.schema, file)?.markup : undefined;
    const { diagnostics } = compileMarkup([...(schema ? [schema] : []), markup], { language, documents: () => ({ tokens: [0] }) });
    return diagnostics.filter(({ place }) => place?.file === file).map(asLsp);
  };
  let timer: NodeJS.Timeout | undefined;
  const checkAll = () => {
    for (const document of documents.all()) void connection.sendDiagnostics({ uri: document.uri, diagnostics: check(document) });
  };
  // A change to a schema affects its prompts too.
  documents.onDidChangeContent(() => {
    clearTimeout(timer);
    timer = setTimeout(checkAll, PAUSE_MS);
  });
  documents.onDidClose(({ document }) => void connection.sendDiagnostics({ uri: document.uri, diagnostics: [] }));

  connection.onInitialize(({ workspaceFolders, rootUri }) => {
    for (const uri of workspaceFolders?.map((folder) => folder.uri) ?? (rootUri ? [rootUri] : []))
      if (uri.startsWith("file:")) roots.add(fileURLToPath(uri));
    return {
      capabilities: {
        textDocumentSync: TextDocumentSyncKind.Incremental,
        completionProvider: { triggerCharacters: ["<", " ", '"', "'"] },
        hoverProvider: true,
        definitionProvider: true,
        documentFormattingProvider: true,
      },
    };
  });

  connection.onCompletion(({ textDocument, position }) => {
    const document = documents.get(textDocument.uri);
    if (!document) return [];
    const schemas = new Map([...schemasNear(fileURLToPath(document.uri))].map(([name, { schema }]) => [name, schema]));
    return completionsAt(document.getText(), document.offsetAt(position), schemas).map(({ label, kind, detail }) => ({
      label,
      kind: KINDS[kind],
      detail,
    }));
  });

  /** The reference at a position, with its schema. */
  const lookUp = (uri: string, position: Position) => {
    const document = documents.get(uri);
    if (!document) return undefined;
    const file = fileURLToPath(uri);
    const draft = draftOf(document.getText(), file);
    const reference = referenceAt(draft, (draft.source.lineStarts[position.line] ?? 0) + position.character);
    if (!reference) return undefined;
    const own = draft.schema ? { file, schema: draft.schema, markup: markupOf(file) } : draft.prompt && schemaOf(draft.prompt.schema, file);
    return { reference, file, found: own };
  };

  connection.onHover(({ textDocument, position }) => {
    const { reference, found } = lookUp(textDocument.uri, position) ?? {};
    if (!reference || !found || reference.kind === "file") return null;
    const { files } = compileMarkup([found.markup], { language });
    const layout = files[0]?.layout;
    if (!layout) return null;
    const tree = describe(layout);
    const text =
      reference.kind === "schema"
        ? hoverText(tree)
        : hoverText(descriptionAt(tree, reference.path.split("/"), reference.kind === "parameter" ? reference.name : undefined));
    return text === undefined ? null : { contents: { kind: "markdown", value: text }, range: rangeOf(placeOf(reference.span)) };
  });

  connection.onDefinition(({ textDocument, position }) => {
    const { reference, file, found } = lookUp(textDocument.uri, position) ?? {};
    const top = { start: { line: 0, character: 0 }, end: { line: 0, character: 0 } };
    if (!reference || file === undefined) return null;
    if (reference.kind === "file") {
      const read = folderFiles(dirname(file)).read(reference.path, file);
      return "problem" in read ? null : { uri: pathToFileURL(read.file).href, range: top };
    }
    if (!found) return null;
    if (reference.kind === "schema") return { uri: pathToFileURL(found.file).href, range: top };
    const node = definitionOf(found.schema, reference);
    if (!node?.origin) return null;
    const place = placeOf(node.origin);
    return { uri: pathToFileURL(place.file).href, range: rangeOf(place) };
  });

  connection.onDocumentFormatting(({ textDocument }) => {
    const document = documents.get(textDocument.uri);
    if (!document) return null;
    const { schema, prompt, diagnostics } = parseMarkup(document.getText());
    const tree = schema ?? prompt;
    if (!tree || hasErrors(diagnostics)) return null;
    return [{ range: { start: { line: 0, character: 0 }, end: document.positionAt(document.getText().length) }, newText: formatPml(tree) }];
  });

  documents.listen(connection);
  connection.listen();
}

function asLsp({ code, severity, message, place }: Diagnostic): LspDiagnostic {
  return {
    code,
    message,
    source: "kvsplice",
    severity: severity === "error" ? DiagnosticSeverity.Error : DiagnosticSeverity.Warning,
    range: rangeOf(place!),
  };
}

function rangeOf({ line, column, endLine, endColumn }: Place): Range {
  return { start: { line: line - 1, character: column - 1 }, end: { line: endLine - 1, character: endColumn - 1 } };
}

function descriptionAt(tree: Description, path: readonly string[], parameter: string | undefined): Description | undefined {
  const within = ({ children }: Description): Description[] =>
    children.flatMap((child) => (child.kind === "union" ? within(child) : [child]));
  let found: Description | undefined = tree;
  for (const name of path.filter((each) => each !== ""))
    found = found && within(found).find((child) => child.kind === "module" && child.name === name);
  return parameter === undefined ? found : found && within(found).find((child) => child.kind === "parameter" && child.name === parameter);
}

function hoverText(description: Description | undefined): string | undefined {
  if (!description) return undefined;
  const { kind, name, start = 0, end = 0, tokens, cached, sees, modules } = description;
  const places = end > start ? `positions ${start}–${end - 1}` : "no positions";
  const state =
    kind === "parameter"
      ? `reserves ${tokens} tokens, computed with the prompt`
      : `${tokens} own tokens, ${cached ? "cached" : "computed with each prompt"}${sees === undefined ? "" : `, seeing ${sees} before it`}`;
  return `**${kind} \`${name}\`**: ${places}; ${state}${modules > 0 ? `; ${modules} nested modules` : ""}`;
}
