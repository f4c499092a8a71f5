import type { Parameter, Space } from "./tree.js";

/**
 * The text rule, token side: which parts of an element's content are tokenised together. Each run of text is tokenised
 * by itself, so a module has the sum of its runs' tokens wherever it is used.
 *
 * The space before a parameter, or before a module or union within a line, is attached to what follows: byte-level
 * tokenizers encode a word and the space before it as one token. If nothing follows, there is no space either. Under
 * `xml:space="preserve"` it stays where it is written.
 */
export type Run<Node> =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "parameter"; readonly parameter: Parameter; readonly lead: Lead }
  | { readonly kind: "element"; readonly node: Node; readonly lead: Lead };

/** Space before what comes here. */
export type Lead = "" | " ";

type Content = { readonly kind: string };

export type RunOptions = {
  readonly preserve: boolean;
  /** Precedes the first text; empty by default. */
  readonly lead?: Lead;
};

export function runsOf<Node extends Content>(children: readonly Node[], { preserve, lead: first = "" }: RunOptions): Run<Node>[] {
  const runs: Run<Node>[] = [];
  let lead = first;

  const addText = (text: string) => {
    const last = runs.at(-1);
    if (text === "") return;
    if (last?.kind === "text") runs[runs.length - 1] = { kind: "text", text: last.text + text };
    else runs.push({ kind: "text", text: lead + text });
    lead = "";
  };
  /** The space at the end of the text so far, if a word precedes it. */
  const takeLead = (): Lead => {
    const given = lead;
    lead = "";
    const last = runs.at(-1);
    if (preserve || last?.kind !== "text" || !(/[^ \t\n] $/.test(last.text) || (last.text === " " && runs.length > 1))) return given;
    runs.pop();
    if (last.text !== " ") runs.push({ kind: "text", text: last.text.slice(0, -1) });
    return " ";
  };

  for (const node of children) {
    if (hasKind(node, "text")) addText(node.text);
    else if (hasKind(node, "file")) addText(preserve ? node.text : node.text.replace(/^([ \t]*\n)+/, "").replace(/[ \t\n]+$/, ""));
    else if (hasKind(node, "parameter")) runs.push({ kind: "parameter", lead: takeLead(), parameter: node as unknown as Parameter });
    else if (hasKind(node, "module") || hasKind(node, "union")) runs.push({ kind: "element", lead: takeLead(), node });
    else if (!hasKind(node, "comment")) runs.push({ kind: "element", lead: "", node });
  }
  return runs;
}

/** Whether layout is text, given the element's own attribute and what applies around it. */
export function preserves(space: Space | undefined, around: boolean): boolean {
  return space === undefined ? around : space === "preserve";
}

function hasKind<Node extends Content, Kind extends string>(node: Node, kind: Kind): node is Node & { kind: Kind; text: string } {
  return node.kind === kind;
}
