import { InvalidArgumentError } from "commander";
import { type Link, parseLink } from "../engine/index.js";

/** Parses a way of linking given as an option. `auto` leaves the choice to the corpus and the model's card. */
export function linkOf(text: string): Link | undefined {
  if (text === "auto") return undefined;
  try {
    return parseLink(text);
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
}
