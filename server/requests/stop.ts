import { z } from "zod";

/** OpenAI limits the number of stop texts. The length is limited too, because that much of the answer is held back. */
const MAX_STOPS = 4;
const MAX_STOP_CHARACTERS = 256;

const stopText = z.string().min(1).max(MAX_STOP_CHARACTERS);

/** Texts that end an answer. */
export const stopField = z
  .union([stopText, z.array(stopText).max(MAX_STOPS)])
  .nullish()
  .transform((value) => (typeof value === "string" ? [value] : (value ?? [])));
