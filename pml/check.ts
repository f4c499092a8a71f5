import { type Diagnostic, diagnosticList, type Report } from "./diagnostic.js";
import { MAX_DEPTH, MAX_PARAMETER_LENGTH, NAME, RESERVED_NAMES } from "./grammar.js";
import { contentBeside, hasMessages, moduleLookup, namedIn, type ScopedModule, textOutsideMessages } from "./scope.js";
import { attributeSpans, placeOf, type Span } from "./source.js";
import { didYouMean } from "./suggest.js";
import type { Module, Parameter, Scaffold, Schema, SchemaMessage, SchemaNode, Union } from "./tree.js";

/**
 * The rules of a schema that its grammar does not say, for trees of markup and builder alike. Files are resolved
 * before (resolve.ts).
 */
export function checkSchema(schema: Schema): readonly Diagnostic[] {
  const { diagnostics, report } = diagnosticList();
  checkName(schema, report);
  checkScope(schema.children, "the schema", report);
  checkOpen(schema, report);
  checkMessages(schema, report);
  const outermost = { module: undefined, message: undefined, scope: schema.children, depth: 0, modulesIn: moduleLookup(), report };
  checkNodes(schema.children, outermost);
  return diagnostics;
}

type Context = {
  readonly module: Module | undefined;
  readonly message: SchemaMessage | undefined;
  /** Content of the module, or of the schema, whose names count here. */
  readonly scope: readonly SchemaNode[];
  readonly depth: number;
  readonly modulesIn: ReturnType<typeof moduleLookup>;
  readonly report: Report;
};

function checkNodes(nodes: readonly SchemaNode[], context: Context): void {
  const depth = context.depth + 1;
  if (depth > MAX_DEPTH) {
    context.report("too-deep", `elements may be nested ${MAX_DEPTH} deep`, nodes[0]?.origin);
    return;
  }
  const within = { ...context, depth };
  for (const node of nodes) checkNode(node, within);
}

function checkNode(node: SchemaNode, context: Context): void {
  const { report } = context;
  switch (node.kind) {
    case "module":
      checkName(node, report);
      checkSrc(node, report);
      checkScope(node.children, `\`${node.name}\``, report);
      checkNodes(node.children, { ...context, module: node, scope: node.children });
      break;
    case "message":
      if (context.message) {
        const message = `\`<${node.role}>\` stands within \`<${context.message.role}>\`; messages follow one another`;
        report("misplaced-element", message, node.origin);
      }
      checkNodes(node.children, { ...context, message: node });
      break;
    case "union":
      checkUnion(node, report);
      checkNodes(node.children, context);
      break;
    case "parameter":
      checkName(node, report);
      checkParameter(node, context);
      break;
    case "scaffold":
      checkName(node, report);
      checkScaffold(node, context);
      break;
    case "import":
      report("unread-file", `the import of \`${node.schema}\` was not read; resolve the schema's files first`, node.origin);
      break;
    default:
      break;
  }
}

function checkName(node: Schema | Module | Parameter | Scaffold, report: Report): void {
  const { name, kind, origin } = node;
  if (name === "" && origin && !attributeSpans(origin, "name").value) return; // the parser told that it is missing
  if (!NAME.test(name)) {
    const rule = "names are letters, digits, `-`, `_` and `.`, and start with a letter or `_`";
    report("bad-name", `\`${name}\` cannot name a ${kind}: ${rule}`, nameSpan(node));
  } else if (RESERVED_NAMES.has(name)) {
    report("reserved-name", `\`${name}\` is a word of the language; give the ${kind} another name`, nameSpan(node));
  }
}

function nameSpan({ origin }: Schema | Module | Parameter | Scaffold): Span | undefined {
  return attributeSpans(origin, "name").value ?? origin;
}

/** Names are unique within a scope. */
function checkScope(children: readonly SchemaNode[], owner: string, report: Report): void {
  const first = new Map<string, Module | Parameter | Scaffold>();
  for (const { node } of namedIn(children)) {
    const earlier = first.get(node.name);
    if (earlier && node.name !== "") {
      const place = nameSpan(earlier);
      const where = place ? ` (first at ${place.source.file}:${placeOf(place).line})` : "";
      report("duplicate-name", `${owner} has \`${node.name}\` twice${where}; rename one`, nameSpan(node));
    } else first.set(node.name, node);
  }
}

/** A message may stay open where the prompt goes on in it: at the schema's end. */
function checkOpen({ children }: Schema, report: Report): void {
  const last = children.findLast(({ kind }) => kind !== "comment" && kind !== "scaffold" && kind !== "import");
  const check = (nodes: readonly SchemaNode[]): void => {
    for (const node of nodes) {
      if (node.kind === "message" && node.open && node !== last) {
        const message = `\`<${node.role}>\` may be open at the schema's end alone, where the prompt goes on in it`;
        report("misplaced-open", message, attributeSpans(node.origin, "open").name);
      }
      if (node.kind === "module") check(node.children);
      if (node.kind === "union") for (const child of node.children) if (child.kind === "module") check(child.children);
    }
  };
  check(children);
}

/** A chat template has no place for text between its messages. */
function checkMessages({ children, origin }: Schema, report: Report): void {
  if (!hasMessages(children)) return;
  const outside = textOutsideMessages(children);
  if (!outside) return;
  const what = outside.module ? `the text of module \`${outside.module.name}\`` : "this text";
  const message = `${what} stands outside of any message, where a chat model has learned to read none; put it into a message, such as \`<user open="true">\``;
  report("text-outside-message", message, outside.module?.origin ?? outside.node.origin ?? origin);
}

function checkSrc(module: Module, report: Report): void {
  const { name, src, children, origin } = module;
  if (src === undefined) return;
  const span = attributeSpans(origin, "src").value;
  if (contentBeside(module).length > 0) {
    report("src-and-content", `module \`${name}\` has both \`src\` and content; keep one of them`, span);
  } else if (!children.some(({ kind }) => kind === "file")) {
    report("unread-file", `\`${src}\` of module \`${name}\` was not read; resolve the schema's files first`, span);
  }
}

function checkUnion({ children, origin }: Union, report: Report): void {
  const members = children.filter(({ kind }) => kind === "module").length;
  if (members < 2) {
    const has = members === 1 ? "one member" : "no members";
    report("union-of-one", `this union has ${has}; a union is a choice among several`, origin);
  }
}

function checkParameter(parameter: Parameter, { module, report }: Context): void {
  const { name, length, origin } = parameter;
  if (!module) {
    report("misplaced-element", `parameter \`${name}\` stands outside of modules, where no prompt can give its argument`, origin);
  }
  if (!Number.isInteger(length) || length < 1 || length > MAX_PARAMETER_LENGTH) {
    const message = `\`length\` of parameter \`${name}\` is ${length}; it takes a number of tokens from 1 to ${MAX_PARAMETER_LENGTH}`;
    report("bad-value", message, attributeSpans(origin, "length").value);
  }
}

function checkScaffold(scaffold: Scaffold, { scope, modulesIn, report }: Context): void {
  const { name, modules, origin } = scaffold;
  const span = attributeSpans(origin, "modules").value;
  const members = new Map<string, readonly ScopedModule[]>();
  for (const path of modules) {
    const found = followPath(path, scope, modulesIn);
    if (typeof found === "function") report("unknown-module", () => `scaffold \`${name}\`: ${found()}`, span);
    else if (members.has(path)) report("scaffold-conflict", `scaffold \`${name}\` names \`${path}\` twice`, span);
    else {
      members.set(path, found);
      if (found.at(-1)?.module.cache === false) {
        report("scaffold-conflict", `scaffold \`${name}\`: \`${path}\` has cache="false", so it has no KV to keep`, span);
      }
    }
  }
  if (modules.length < 2) {
    const names = modules.length === 1 ? "one module" : "no modules";
    report("scaffold-of-one", `scaffold \`${name}\` names ${names}; it encodes several together`, origin);
  }
  const choices = new Map<Union, { readonly member: Module; readonly path: string }>();
  for (const [path, steps] of members) {
    for (const { union, module } of steps) {
      const chosen = union && choices.get(union);
      if (union && !chosen) choices.set(union, { member: module, path });
      else if (chosen && chosen.member !== module) {
        const message = `scaffold \`${name}\`: \`${chosen.path}\` and \`${path}\` are of one union, so no prompt has both`;
        report("scaffold-conflict", message, span);
      }
    }
  }
}

/** The modules along a path, or the words for why there are none. */
function followPath(path: string, scope: readonly SchemaNode[], modulesIn: Context["modulesIn"]): readonly ScopedModule[] | (() => string) {
  const steps: ScopedModule[] = [];
  for (const name of path.split("/")) {
    const outer = steps.at(-1)?.module;
    const modules = modulesIn(outer?.children ?? scope);
    const step = modules.get(name);
    if (!step) return () => `no module \`${name}\`${outer ? ` in \`${outer.name}\`` : ""}${didYouMean(name, modules.keys())}`;
    steps.push(step);
  }
  return steps;
}
