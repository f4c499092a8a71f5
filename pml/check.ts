import { conditionOf } from "./condition.js";
import { type Diagnostic, diagnosticList, type Report } from "./diagnostic.js";
import { MAX_DEPTH, MAX_PARAMETER_LENGTH, MAX_REPEAT, NAME, RESERVED_NAMES } from "./grammar.js";
import { contentBeside, hasMessages, moduleLookup, namedIn, type ScopedModule, textOutsideMessages, variablesOf } from "./scope.js";
import { attributeSpans, placeOf, type Span } from "./source.js";
import { didYouMean } from "./suggest.js";
import type { Module, Parameter, Scaffold, Schema, SchemaMessage, SchemaNode, Union, Variable } from "./tree.js";
import { wrongValue } from "./value.js";

/**
 * The rules of a schema that its grammar does not express, for trees from markup and builder alike. Files are resolved
 * first (resolve.ts).
 */
export function checkSchema(schema: Schema): readonly Diagnostic[] {
  const { diagnostics, report } = diagnosticList();
  checkName(schema, report);
  checkScope(schema.children, "the schema", report);
  checkOpen(schema, report);
  checkMessages(schema, report);
  const outermost: Context = {
    module: undefined,
    message: undefined,
    scope: schema.children,
    variables: variablesOf(schema),
    depth: 0,
    modulesIn: moduleLookup(),
    report,
  };
  checkNodes(schema.children, outermost);
  return diagnostics;
}

type Context = {
  readonly module: Module | undefined;
  readonly message: SchemaMessage | undefined;
  /** Content of the module or schema whose names are in scope here. */
  readonly scope: readonly SchemaNode[];
  readonly variables: ReadonlyMap<string, Variable>;
  readonly depth: number;
  readonly modulesIn: ReturnType<typeof moduleLookup>;
  readonly report: Report;
};

function checkNodes(nodes: readonly SchemaNode[], context: Context): void {
  const depth = context.depth + 1;
  if (depth > MAX_DEPTH) {
    context.report("too-deep", `elements may be nested at most ${MAX_DEPTH} deep`, nodes[0]?.origin);
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
      checkRepeat(node, report);
      checkCondition(node, context);
      checkScope(node.children, `\`${node.name}\``, report);
      checkNodes(node.children, { ...context, module: node, scope: node.children });
      break;
    case "message":
      if (context.message) {
        const message = `\`<${node.role}>\` is nested in \`<${context.message.role}>\`; write one message after the other`;
        report("misplaced-element", message, node.origin);
      }
      checkNodes(node.children, { ...context, message: node });
      break;
    case "union":
      checkUnion(node, report);
      checkNodes(node.children, context);
      break;
    case "parameter":
      if (!node.variable) checkName(node, report);
      checkParameter(node, context);
      break;
    case "scaffold":
      checkName(node, report);
      checkScaffold(node, context);
      break;
    case "variable":
      checkName(node, report);
      checkDefault(node, report);
      break;
    case "import":
      report("unread-file", `the import of \`${node.schema}\` was not read; resolve the schema's files first`, node.origin);
      break;
    default:
      break;
  }
}

function checkName(node: Schema | Module | Parameter | Scaffold | Variable, report: Report): void {
  const { name, kind, origin } = node;
  if (name === "" && origin && !attributeSpans(origin, "name").value) return; // the parser reported that it is missing
  if (!NAME.test(name)) {
    const rule = "names are letters, digits, `-`, `_` and `.`, and start with a letter or `_`";
    report("bad-name", `\`${name}\` is not a valid name for a ${kind}: ${rule}`, nameSpan(node));
  } else if (RESERVED_NAMES.has(name) || (kind === "variable" && name === "wrap")) {
    report("reserved-name", `\`${name}\` is a reserved word; give the ${kind} another name`, nameSpan(node));
  }
}

function nameSpan({ origin }: Schema | Module | Parameter | Scaffold | Variable): Span | undefined {
  return attributeSpans(origin, "name").value ?? origin;
}

/** Names are unique within a scope. */
function checkScope(children: readonly SchemaNode[], owner: string, report: Report): void {
  const first = new Map<string, Module | Parameter | Scaffold | Variable>();
  for (const { node } of namedIn(children)) {
    const earlier = first.get(node.name);
    if (earlier && node.name !== "") {
      const place = nameSpan(earlier);
      const where = place ? ` (first at ${place.source.file}:${placeOf(place).line})` : "";
      report("duplicate-name", `${owner} has \`${node.name}\` twice${where}; rename one`, nameSpan(node));
    } else first.set(node.name, node);
  }
}

/** A message may stay open only at the schema's end, where the prompt continues it. */
function checkOpen({ children }: Schema, report: Report): void {
  const last = children.findLast(({ kind }) => kind !== "comment" && kind !== "scaffold" && kind !== "import" && kind !== "variable");
  const check = (nodes: readonly SchemaNode[]): void => {
    for (const node of nodes) {
      if (node.kind === "message" && node.open && node !== last) {
        const message = `\`<${node.role}>\` may be open only at the schema's end, where the prompt continues it`;
        report("misplaced-open", message, attributeSpans(node.origin, "open").name);
      }
      if (node.kind === "module") check(node.children);
      if (node.kind === "union") for (const child of node.children) if (child.kind === "module") check(child.children);
    }
  };
  check(children);
}

/** A chat template has no place for text between messages. */
function checkMessages({ children, origin }: Schema, report: Report): void {
  if (!hasMessages(children)) return;
  const outside = textOutsideMessages(children);
  if (!outside) return;
  const what = outside.module ? `the text of module \`${outside.module.name}\`` : "this text";
  const message = `${what} is outside any message, where a chat model has learned to expect no text; put it into a message such as \`<user open="true">\``;
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

function checkRepeat({ name, repeat = 1, origin }: Module, report: Report): void {
  if (Number.isInteger(repeat) && repeat >= 1 && repeat <= MAX_REPEAT) return;
  const message = `\`repeat\` of module \`${name}\` is ${repeat}; it takes a number of times from 1 to ${MAX_REPEAT}`;
  report("bad-value", message, attributeSpans(origin, "repeat").value);
}

function checkCondition({ name, if: text, origin }: Module, { variables, report }: Context): void {
  if (text === undefined) return;
  const span = attributeSpans(origin, "if").value;
  const condition = conditionOf(text);
  if (!condition) {
    if (!origin) report("bad-value", `\`${text}\` is not a condition; write \`variable\`, \`!variable\` or \`variable=value\``, span);
    return; // otherwise the parser reported it
  }
  const variable = variables.get(condition.variable);
  if (!variable) {
    report("unknown-variable", () => `module \`${name}\`: ${noVariable(condition.variable, variables)}`, span);
  } else if (condition.value !== undefined) {
    const wrong = wrongValue(variable.type, condition.value);
    if (wrong) report("bad-value", `module \`${name}\` compares \`${variable.name}\` with \`${condition.value}\`; ${wrong}`, span);
  }
}

function noVariable(name: string, variables: ReadonlyMap<string, Variable>): string {
  return `the schema has no variable \`${name}\`${didYouMean(name, variables.keys()) || `; declare it with \`<variable name="${name}"/>\` at the top`}`;
}

/** The default must be of the declared type. */
function checkDefault({ kind, name, type, default: value, origin }: Variable | Parameter, report: Report): void {
  const wrong = value === undefined ? undefined : wrongValue(type, value);
  if (wrong) report("bad-value", `the default of ${kind} \`${name}\` is \`${value}\`; ${wrong}`, attributeSpans(origin, "default").value);
}

function checkUnion({ default: seen, children, origin }: Union, report: Report): void {
  const names = children.flatMap((child) => (child.kind === "module" ? [child.name] : []));
  if (seen !== undefined && !names.includes(seen)) {
    const message = () => `the default of this union is \`${seen}\`, which is not one of its members${didYouMean(seen, names)}`;
    report("unknown-module", message, attributeSpans(origin, "default").value);
  }
  const members = names.length;
  if (members < 2) {
    const has = members === 1 ? "one member" : "no members";
    report("union-of-one", `this union has ${has}; a union is a choice between several`, origin);
  }
}

function checkParameter(parameter: Parameter, { module, variables, report }: Context): void {
  const { name, length, variable, origin } = parameter;
  checkDefault(parameter, report);
  if (variable) {
    const declared = variables.get(name);
    const span = attributeSpans(origin, "variable").value;
    if (!declared) report("unknown-variable", () => noVariable(name, variables), span);
    else if (declared.type === "boolean") {
      report("bad-value", `variable \`${name}\` is true or false, not text; use it in the \`if\` of a module`, span);
    }
  } else if (!module) {
    report(
      "misplaced-element",
      `parameter \`${name}\` is outside any module, where no prompt can give its argument; put it into a \`<module>\`, or fill it from a variable`,
      origin,
    );
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
      if (found.some(({ module }) => (module.repeat ?? 1) > 1)) {
        report("scaffold-conflict", `scaffold \`${name}\`: \`${path}\` has \`repeat\`, so no single copy of it can be encoded`, span);
      }
      if (found.at(-1)?.module.cache === false) {
        report("scaffold-conflict", `scaffold \`${name}\`: \`${path}\` has cache="false", so it has no KV states to keep`, span);
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
        const message = `scaffold \`${name}\`: \`${chosen.path}\` and \`${path}\` are members of the same union, so no prompt has both`;
        report("scaffold-conflict", message, span);
      }
    }
  }
}

/** The modules along a path, or a message saying why there are none. */
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
