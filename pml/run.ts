import type { Parameter } from "./tree.js";

/**
 * The whitespace rule, token side: what of an element's content is tokenised together. Each text run is tokenised
 * by itself, so the number of tokens of a module is the sum of its runs', wherever it stands.
 *
 * - A line (whitespace.ts) ends with a line feed, so that modules stand on lines of their own, whichever of them a
 *   prompt includes. It has none where control text follows: before a message, at a message's end, at a prompt's.
 * - The space before a parameter goes to its argument: byte-level tokenizers write a word and the space before it as
 *   one token.
 * - Under `xml:space="preserve"` neither happens: runs are what is written.
 */
export type Run<Node> =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "parameter"; readonly parameter: Parameter; readonly lead: "" | " " }
  | { readonly kind: "element"; readonly node: Node };

type Content = { readonly kind: string };

export type RunOptions = {
  readonly preserve: boolean;
  /** Whether control text follows the content. */
  readonly controlFollows: boolean;
};

export function runsOf<Node extends Content>(children: readonly Node[], { preserve, controlFollows }: RunOptions): Run<Node>[] {
  const runs: Run<Node>[] = [];
  let line: Run<Node>[] = [];

  const addText = (text: string) => {
    const last = line.at(-1);
    if (last?.kind === "text") line[line.length - 1] = { kind: "text", text: last.text + text };
    else if (text !== "") line.push({ kind: "text", text });
  };
  const endLine = (control: boolean) => {
    if (line.length > 0 && !preserve && !control) addText("\n");
    runs.push(...line);
    line = [];
  };

  for (const node of children) {
    if (hasKind(node, "text")) addText(node.text);
    else if (hasKind(node, "file")) {
      endLine(false);
      const text = preserve ? node.text : node.text.replace(/^[ \t\n]+|[ \t\n]+$/g, "");
      addText(text);
      endLine(false);
    } else if (hasKind(node, "parameter")) {
      const before = line.at(-1);
      const spaced = !preserve && before?.kind === "text" && before.text.endsWith(" ");
      if (spaced) {
        line.pop();
        addText(before.text.slice(0, -1));
      }
      line.push({ kind: "parameter", parameter: node as unknown as Parameter, lead: spaced ? " " : "" });
    } else if (!hasKind(node, "comment")) {
      endLine(hasKind(node, "message"));
      runs.push({ kind: "element", node });
    }
  }
  endLine(controlFollows);
  return runs;
}

function hasKind<Node extends Content, Kind extends string>(node: Node, kind: Kind): node is Node & { kind: Kind; text: string } {
  return node.kind === kind;
}
