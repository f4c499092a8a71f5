import type { Comment, PromptNode, Space, Text } from "./tree.js";

/**
 * The whitespace rule, tree side. A *line* is text, parameters and comments up to the next element of another kind
 * or the end of the element. Within a line every run of whitespace becomes one space, and none is left at either
 * end; comments are as if they were not there. Under `xml:space="preserve"` text stays as it is.
 *
 * Whitespace is XML's: space, tab, line feed, carriage return. A no-break space is text.
 */
const WHITESPACE = /[ \t\r\n]+/g;

/** `parameter` stands within a line; whatever has another kind ends it. */
type Lined = { readonly kind: string };

export function normaliseText<Node extends Lined>(children: readonly (Node | Text)[], preserve: boolean): (Node | Text)[] {
  const result: (Node | Text)[] = [];
  let lastText = -1; // index of the line's last text, or -1
  let spaced = true; // whitespace here says nothing: the line begins, or a space stands already

  const endLine = () => {
    const last = result[lastText];
    if (!preserve && last && isText(last) && last.text.endsWith(" ")) {
      const text = last.text.slice(0, -1);
      if (text === "") result.splice(lastText, 1);
      else result[lastText] = { ...last, text };
    }
    lastText = -1;
    spaced = true;
  };

  for (const child of children) {
    if (isText(child)) {
      let text = child.text;
      if (!preserve) {
        text = text.replace(WHITESPACE, " ");
        if (spaced && text.startsWith(" ")) text = text.slice(1);
      }
      if (text === "") continue;
      const previous = result.at(-1);
      if (previous && isText(previous)) {
        result[result.length - 1] = { ...previous, text: previous.text + text };
      } else {
        result.push({ ...child, text });
        lastText = result.length - 1;
      }
      spaced = text.endsWith(" ");
    } else if (isComment(child)) {
      result.push(child);
    } else if (child.kind === "parameter") {
      result.push(child);
      lastText = -1;
      spaced = false;
    } else {
      endLine();
      result.push(child);
    }
  }
  endLine();
  return result;
}

/** A prompt's content: what is blank before its own first words is layout among the includes, whatever `xml:space` says. */
export function normalisePrompt(children: readonly PromptNode[], preserve: boolean): PromptNode[] {
  let words = false;
  return normaliseText<PromptNode>(children, preserve).filter((node) => {
    if (node.kind === "text" && !words && isBlank(node.text)) return false;
    if (node.kind !== "include" && node.kind !== "comment") words = true;
    return true;
  });
}

/** Whether text is kept, given what the element says and what holds around it. */
export function preserves(space: Space | undefined, around: boolean): boolean {
  return space === undefined ? around : space === "preserve";
}

export function isBlank(text: string): boolean {
  return /^[ \t\r\n]*$/.test(text);
}

function isText(node: Lined | Text): node is Text {
  return node.kind === "text";
}

function isComment(node: Lined | Comment): node is Comment {
  return node.kind === "comment";
}
