import { InvalidArgumentError } from "commander";
import { parseLink, type Link } from "../engine/index.js";

/** A way of linking as an option names it; `auto` leaves the choice to the corpus and the model's card. */
export function linkOf(text: string): Link | undefined {
  if (text === "auto") return undefined;
  try {
    return parseLink(text);
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
}
