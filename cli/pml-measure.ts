import {
  type BlockSource,
  type GenerateOptions,
  isBlockPiece,
  type Link,
  linkText,
  type Model,
  type Plan,
  type PromptStats,
  withoutCache,
} from "../engine/index.js";
import {
  blockNames,
  type Compiled,
  type Context,
  compileMarkup,
  hasErrors,
  type Layout,
  type Markup,
  type MarkupOptions,
  type Module,
  naturalPlan,
  type Schema,
  type SchemaNode,
  schemaPath,
} from "../pml/index.js";
import { distanceFrom, type Reference, referenceOf } from "../rag/index.js";

/** Means over prompts, each compared with the answer to its natural prompt. */
export type WayOfPrompting = {
  readonly way: string;
  /** In nats, as in an audit's `Distance`. */
  readonly divergence: number;
  /** In percent, like the fields below. */
  readonly same_first_token: number;
  readonly same_answer: number;
  /** Share of the prompts' tokens. */
  readonly computed: number;
};

export type Mend = {
  readonly mend: string;
  /** Divergence of the whole prompts that include the module, without and with the fix. */
  readonly before: number;
  readonly after: number;
  /** Percent of these prompts' tokens that are computed with the fix. */
  readonly computed: number;
};

export type ModuleAudit = {
  /** A module's path, the schema's name for text outside modules, or `scaffold` with its path. */
  readonly module: string;
  readonly prompts: number;
  /** Divergence if only this module comes from the cache, beyond the divergence due to positions. */
  readonly divergence: number;
  readonly suffers: boolean;
  /** The fixes that were tried, best first. */
  readonly mends: readonly Mend[];
};

export type PmlAudit = { readonly ways: readonly WayOfPrompting[]; readonly modules: readonly ModuleAudit[] };

export type MeasureOptions = {
  readonly links: readonly Link[];
  /** Nats that a module may add before it is reported as suffering. */
  readonly tolerance: number;
  readonly how: GenerateOptions;
  /** Called before each measurement; `known` is the number of measurements known so far. */
  readonly onStep: (done: number, known: number) => void;
};

export const AS_IT_IS = "as it is";
export const POSITIONS = "nothing cached";

type SchemaMarkup = Extract<Markup, { kind: "schema" }>;
/** A prompt with the answer that it is compared with. */
type Asked = { readonly markup: Markup; readonly compiled: Compiled; readonly layout: Layout; readonly reference: Reference };

/**
 * What isolation costs the modules of a schema, measured over prompts. Each module that a prompt takes from the cache is
 * compared with the natural prompt, by itself and with possible fixes.
 *
 * @param files the schema, then prompts that compile
 */
export async function measureModules(
  model: Model,
  [schema, ...prompts]: readonly [SchemaMarkup, ...Markup[]],
  markup: MarkupOptions,
  options: MeasureOptions,
): Promise<PmlAudit> {
  const { links, tolerance, how } = options;
  let done = 0;
  let known = prompts.length * (CONTEXTS.length + links.length + 3);
  const step = () => options.onStep(done++, known);

  const compiledOf = (tree: Schema, prompt: Markup): { readonly layout: Layout; readonly compiled: Compiled } | undefined => {
    const {
      files: [laid, found],
      diagnostics,
    } = compileMarkup([{ ...schema, schema: tree }, prompt], markup);
    return laid?.layout && found?.compiled && !hasErrors(diagnostics) ? { layout: laid.layout, compiled: found.compiled } : undefined;
  };
  const measured = async ({ reference }: Asked, plan: Plan, link?: Link) => {
    step();
    return distanceFrom(reference, model, plan, { ...how, ...(link && { link }) });
  };
  /** Percent of a plan's tokens that are computed. What a link recomputes depends on the question. */
  const computedShare = ({ cachedTokens, computedTokens }: Compiled, stats: PromptStats, link?: Link) =>
    link
      ? (100 * stats.computed_tokens) / (stats.cached_tokens + stats.encoded_tokens + stats.computed_tokens)
      : (100 * computedTokens) / (cachedTokens + computedTokens);

  const asked: Asked[] = [];
  for (const prompt of prompts) {
    step();
    const found = compiledOf(schema.schema, prompt)!;
    asked.push({ markup: prompt, ...found, reference: await referenceOf(model, naturalPlan(found.compiled, model), how) });
  }
  const wayOf = async (
    way: string,
    of: readonly Asked[],
    planOf: (prompt: Asked) => Compiled | undefined,
    link?: Link,
  ): Promise<WayOfPrompting | undefined> => {
    const all = [];
    for (const prompt of of) {
      const compiled = planOf(prompt);
      if (!compiled) return undefined;
      const { distance, stats } = await measured(prompt, compiled.plan, link);
      all.push({ ...distance, computed: computedShare(compiled, stats, link) });
    }
    return {
      way,
      divergence: mean(all.map(({ divergence }) => divergence)),
      same_first_token: 100 * mean(all.map(({ sameFirst }) => Number(sameFirst))),
      same_answer: 100 * mean(all.map(({ sameAnswer }) => Number(sameAnswer))),
      computed: mean(all.map(({ computed }) => computed)),
    };
  };
  const changed =
    (tree: Schema) =>
    ({ markup: prompt }: Asked) =>
      compiledOf(tree, prompt)?.compiled;

  const ways: (WayOfPrompting | undefined)[] = [
    await wayOf(AS_IT_IS, asked, ({ compiled }) => compiled),
    await wayOf(POSITIONS, asked, ({ compiled }) => uncached(compiled)),
  ];
  for (const context of CONTEXTS) {
    if (context !== (schema.schema.context ?? "none"))
      ways.push(await wayOf(`<schema context="${context}">`, asked, changed({ ...schema.schema, context })));
  }
  for (const link of links) ways.push(await wayOf(`--link ${linkText(link)}`, asked, ({ compiled }) => compiled, link));

  const names = [...new Set(asked.flatMap(({ compiled, layout }) => modulesIn(compiled, layout)))];
  known += asked.reduce((sum, { compiled, layout }) => sum + new Set(modulesIn(compiled, layout)).size + 1, 0);
  const places = new Map<Asked, number>();
  for (const prompt of asked) places.set(prompt, (await measured(prompt, withoutCache(prompt.compiled.plan))).distance.divergence);

  const modules: ModuleAudit[] = [];
  for (const module of names) {
    const of = asked.filter(({ compiled, layout }) => modulesIn(compiled, layout).includes(module));
    const added: number[] = [];
    for (const prompt of of)
      added.push(Math.max(0, (await measured(prompt, onlyCached(prompt, module))).distance.divergence - places.get(prompt)!));
    const divergence = mean(added);
    modules.push({ module, prompts: of.length, divergence, suffers: divergence > tolerance, mends: [] });
  }

  const worst = modules
    .filter(({ suffers }) => suffers)
    .toSorted((a, b) => b.divergence - a.divergence)
    .slice(0, MOST_MENDED);
  for (const { module } of worst) {
    const of = asked.filter(({ compiled, layout }) => modulesIn(compiled, layout).includes(module));
    const before = (await wayOf("", of, ({ compiled }) => compiled))!.divergence;
    const mends: Mend[] = [];
    const tried = [
      ...changesFor(schema.schema, module, of).map(({ mend, tree }) => ({ mend, planOf: changed(tree), link: undefined })),
      ...links.map((link) => ({ mend: `--link ${linkText(link)}`, planOf: ({ compiled }: Asked) => compiled, link })),
    ];
    known += of.length * (tried.length + 1);
    for (const { mend, planOf, link } of tried) {
      const found = await wayOf(mend, of, planOf, link);
      if (found) mends.push({ mend, before, after: found.divergence, computed: found.computed });
    }
    const at = modules.findIndex((each) => each.module === module);
    modules[at] = { ...modules[at]!, mends: mends.toSorted((a, b) => a.after - b.after) };
  }
  return { ways: ways.filter((way) => way !== undefined), modules };
}

/** Maximum modules for which fixes are tried, worst first. */
const MOST_MENDED = 5;
const CONTEXTS: readonly Context[] = ["none", "before", "all"];

function modulesIn({ plan }: Compiled, layout: Layout): string[] {
  const names = blockNames(layout);
  return plan.pieces.flatMap((piece) => (isBlockPiece(piece) ? nameOf(piece.block, names) : []));
}

/** Empty for documents. */
function nameOf(block: BlockSource, names: ReadonlyMap<BlockSource, string>): string[] {
  const name = names.get(block);
  return name === undefined ? [] : [schemaPath(name)];
}

function uncached(compiled: Compiled): Compiled {
  return {
    ...compiled,
    plan: withoutCache(compiled.plan),
    cachedTokens: 0,
    computedTokens: compiled.cachedTokens + compiled.computedTokens,
  };
}

/** The plan with one module from the cache and everything else computed in place. */
function onlyCached({ compiled: { plan }, layout }: Asked, module: string): Plan {
  const names = blockNames(layout);
  return {
    pieces: plan.pieces.flatMap((piece) =>
      isBlockPiece(piece) && nameOf(piece.block, names)[0] !== module ? withoutCache({ pieces: [piece] }).pieces : [piece],
    ),
  };
}

/** What an author can write to fix a module: what it sees, what it is encoded with, or that each prompt computes it. */
function changesFor(schema: Schema, path: string, of: readonly Asked[]): { readonly mend: string; readonly tree: Schema }[] {
  const module = moduleAt(schema.children, path.split("/"));
  if (!module) return [];
  const contexts = CONTEXTS.filter((each) => each !== "none" && each !== module.context).map((context) => ({
    mend: `context="${context}"`,
    tree: withModule(schema, path, { context }),
  }));
  return [...contexts, ...scaffoldsFor(schema, path, of), { mend: `cache="false"`, tree: withModule(schema, path, { cache: false }) }];
}

/** Scaffolds of a module: with the preceding module that all of its prompts include, and with all that they include. */
function scaffoldsFor(schema: Schema, path: string, of: readonly Asked[]): { readonly mend: string; readonly tree: Schema }[] {
  const [first, ...others] = of.map(({ compiled }) => compiled.modules);
  const common = (first ?? []).filter((each) => {
    const module = moduleAt(schema.children, each.split("/"));
    return module?.cache && others.every((modules) => modules.includes(each));
  });
  const order = documentOrder(schema.children);
  const sorted = common.toSorted((a, b) => order.indexOf(a) - order.indexOf(b));
  const at = sorted.indexOf(path);
  const neighbour = sorted[at - 1] ?? sorted[at + 1];
  if (at === -1 || neighbour === undefined) return [];
  const pair = sorted.filter((each) => each === path || each === neighbour);
  return [pair, ...(sorted.length > 2 ? [sorted] : [])].map((modules) => ({
    mend: `<scaffold modules="${modules.join(" ")}">`,
    tree: { ...schema, children: [...schema.children, { kind: "scaffold", name: "audited", modules }] },
  }));
}

function documentOrder(nodes: readonly SchemaNode[], outer = ""): string[] {
  return nodes.flatMap((node) => {
    if (node.kind === "module") return [`${outer}${node.name}`, ...documentOrder(node.children, `${outer}${node.name}/`)];
    return node.kind === "union" || node.kind === "message" ? documentOrder(node.children, outer) : [];
  });
}

function moduleAt(nodes: readonly SchemaNode[], [name, ...inner]: readonly string[]): Module | undefined {
  for (const node of nodes) {
    const found =
      node.kind === "module" && node.name === name
        ? node
        : node.kind === "union" || node.kind === "message"
          ? moduleAt(node.children, [name!])
          : undefined;
    if (found) return inner.length === 0 ? found : moduleAt(found.children, inner);
  }
  return undefined;
}

function withModule(schema: Schema, path: string, change: Partial<Pick<Module, "context" | "cache">>): Schema {
  const visit = <Node extends SchemaNode>(node: Node, outer: string): Node => {
    if (node.kind === "module") {
      const here = `${outer}${node.name}`;
      return { ...node, ...(here === path && change), children: node.children.map((child) => visit(child, `${here}/`)) };
    }
    return node.kind === "union" || node.kind === "message"
      ? { ...node, children: node.children.map((child) => visit(child as SchemaNode, outer)) }
      : node;
  };
  return { ...schema, children: schema.children.map((child) => visit(child, "")) };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
