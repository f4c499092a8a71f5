import { strict as assert } from "node:assert";
import { z } from "zod";

export const FEATURES = [
  "chat",
  "stream",
  "over a corpus",
  "sources",
  "JSON Schema",
  "a forced call",
  "a loop of tools",
  "embeddings",
] as const;

/** What a client needs to know about the server. */
export type Asking = {
  readonly baseURL: string;
  readonly model: string;
  /** The model over a corpus of one article, about the Forth Bridge. */
  readonly corpusModel: string;
  /** A model that knows when to call a tool. */
  readonly toolModel: string;
};

/** A client library: its features, each as a function that fails if the server's answer is wrong. */
export type Client = {
  readonly name: string;
  readonly packages: readonly string[];
  readonly run: { readonly [Feature in (typeof FEATURES)[number]]?: (asking: Asking) => Promise<void> };
};

export const API_KEY = "none";
export const HELLO = "Say hello.";
export const QUESTION = "Who designed the Forth Bridge?";
export const LAMP_QUESTION = "Describe a lamp as JSON.";
export const Lamp = z.object({ colour: z.enum(["red", "green", "white"]), height: z.int().min(1).max(99) });
export const LAMP_SCHEMA = {
  type: "object",
  properties: { colour: { enum: ["red", "green", "white"] }, height: { type: "integer", minimum: 1, maximum: 99 } },
  required: ["colour", "height"],
  additionalProperties: false,
};
export const WEATHER_QUESTION = "What is the weather in Oslo right now? Use the tool.";
export const Weather = z.object({ city: z.string().max(40).describe("Name of the city") });
export const WEATHER_SCHEMA = {
  type: "object",
  properties: { city: { type: "string", maxLength: 40, description: "Name of the city" } },
  required: ["city"],
  additionalProperties: false,
};
export const WEATHER_TOOL = {
  type: "function" as const,
  function: { name: "get_weather", description: "The weather in a city now", parameters: WEATHER_SCHEMA },
};

/** The tool, and the arguments of its calls. */
export function weatherTool() {
  const asked: string[] = [];
  return {
    asked,
    answer(city: string): string {
      asked.push(city);
      return `It is snowing in ${city}, -7 degrees.`;
    },
  };
}

export function isText(text: unknown): void {
  assert.equal(typeof text, "string");
  assert.match(text as string, /\w/);
}

export function isAnswered(text: unknown): void {
  assert.match(String(text), /Fowler|Baker/);
}

export function isLamp(value: unknown): void {
  Lamp.parse(typeof value === "string" ? JSON.parse(value) : value);
}

/** Checks that the tool was called for the city, and that the answer contains its result. */
export function isLoop(asked: readonly string[], answer: unknown): void {
  assert.match(asked.join(), /Oslo/);
  assert.match(String(answer), /snow|-7/i);
}

export function isVector(vector: readonly number[] | undefined): void {
  assert.equal(vector?.length, 384);
}
