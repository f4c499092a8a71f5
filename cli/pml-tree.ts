import pc from "picocolors";
import type { Description } from "../pml/index.js";

/** Maximum elements shown of a large schema, and of one parent, so that they fit on a screen. */
const MAX_LINES = 60;
const MAX_CHILDREN = 12;

/**
 * A schema as a table of positions, own tokens, and the tree. In a large schema, the outer levels come first. Among many
 * siblings, those that the prompt includes come first, then the others in order; the rest is only counted.
 */
export function renderTree(root: Description, options: { readonly all?: boolean } = {}): string {
  const shown = options.all ? undefined : choose(root);
  const rows: Row[] = [rowOf(root, "", "")];
  addChildren(root, "", shown, rows);
  const places = rows.reduce((width, { place }) => Math.max(width, place.length), "positions".length);
  const tokens = rows.reduce((width, row) => Math.max(width, row.tokens.length), "tokens".length);
  const lines = rows.map((row) => {
    const line = `${row.place.padStart(places)}  ${row.tokens.padStart(tokens)}  ${row.branch}${row.label}`;
    return row.left ? pc.dim(line) : line;
  });
  return [pc.dim(`${"positions".padStart(places)}  ${"tokens".padStart(tokens)}`), ...lines].join("\n");
}

type Row = { readonly place: string; readonly tokens: string; readonly branch: string; readonly label: string; readonly left: boolean };

/** The children to show of each element, chosen level by level until the lines are used up. */
function choose(root: Description): ReadonlyMap<Description, ReadonlySet<Description>> {
  const shown = new Map<Description, ReadonlySet<Description>>();
  let lines = 1;
  for (let level: readonly Description[] = [root]; level.length > 0; ) {
    const next: Description[] = [];
    for (const parent of includedFirst(level)) {
      if (parent.children.length === 0) continue;
      if (lines >= MAX_LINES) return shown;
      const chosen = new Set(includedFirst(parent.children).slice(0, MAX_CHILDREN));
      shown.set(parent, chosen);
      lines += chosen.size;
      next.push(...parent.children.filter((child) => chosen.has(child)));
    }
    level = next;
  }
  return shown;
}

function includedFirst(elements: readonly Description[]): readonly Description[] {
  return elements.toSorted((a, b) => Number(b.included ?? false) - Number(a.included ?? false));
}

function addChildren(parent: Description, indent: string, shown: ReturnType<typeof choose> | undefined, rows: Row[]): void {
  const chosen = shown ? shown.get(parent) : new Set(parent.children);
  if (!chosen) {
    if (parent.children.length > 0) rows.push(restRow(parent.children, indent));
    return;
  }
  const visible = parent.children.filter((child) => chosen.has(child));
  const hidden = parent.children.filter((child) => !chosen.has(child));
  visible.forEach((child, i) => {
    const last = i === visible.length - 1 && hidden.length === 0;
    rows.push(rowOf(child, indent, last ? "└ " : "├ "));
    addChildren(child, indent + (last ? "  " : "│ "), shown, rows);
  });
  if (hidden.length > 0) rows.push(restRow(hidden, indent));
}

function rowOf({ kind, name, start, end, tokens, cached, included, sees, repeat }: Description, indent: string, branch: string): Row {
  const label = kind === "module" || kind === "schema" ? name : `${kind} ${name}`.trim();
  const computed = kind === "module" && !cached ? " (computed each time)" : "";
  const left = included === false;
  const times = repeat === undefined ? "" : ` (up to ${repeat} times)`;
  const seen = sees === undefined ? "" : ` (sees ${sees} tokens before it)`;
  return {
    place: placeOf(start, end),
    tokens: kind === "union" || (kind === "document" && tokens === 0) ? "" : String(tokens),
    branch: indent + branch,
    label: label + computed + times + seen + (left ? " – left out" : ""),
    left,
  };
}

function restRow(hidden: readonly Description[], indent: string): Row {
  const modules = hidden.reduce((sum, child) => sum + child.modules + (child.kind === "module" ? 1 : 0), 0);
  const start = hidden.find((child) => child.start !== undefined)?.start;
  const end = hidden.reduce((furthest, child) => Math.max(furthest, child.end ?? 0), 0);
  const what = modules > 0 ? `${modules} more module${modules === 1 ? "" : "s"}` : `${hidden.length} more`;
  return { place: placeOf(start, end), tokens: "", branch: `${indent}└ `, label: `… ${what}`, left: true };
}

/** The first and last position; empty if there are none. */
function placeOf(start: number | undefined, end: number | undefined): string {
  if (start === undefined || end === undefined || end <= start) return "";
  return end - start === 1 ? `${start}` : `${start}–${end - 1}`;
}
