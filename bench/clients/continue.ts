import { strict as assert } from "node:assert";
import { constructLlmApi } from "@continuedev/openai-adapters";
import {
  API_KEY,
  type Asking,
  type Client,
  HELLO,
  isAnswered,
  isText,
  isVector,
  QUESTION,
  WEATHER_QUESTION,
  WEATHER_TOOL,
} from "./client.js";

const apiOf = ({ baseURL }: Asking) => constructLlmApi({ provider: "openai", apiBase: `${baseURL}/`, apiKey: API_KEY } as never)!;
const ask = (content: string) => [{ role: "user" as const, content }];
const { signal } = new AbortController();

export const continueAdapters: Client = {
  name: "Continue",
  packages: ["@continuedev/openai-adapters"],
  run: {
    async chat(asking) {
      const { choices } = await apiOf(asking).chatCompletionNonStream({ model: asking.model, messages: ask(HELLO), stream: false }, signal);
      isText(choices[0]!.message.content);
    },
    async stream(asking) {
      let text = "";
      for await (const { choices } of apiOf(asking).chatCompletionStream(
        { model: asking.model, messages: ask(HELLO), stream: true },
        signal,
      ))
        text += choices[0]?.delta.content ?? "";
      isText(text);
    },
    async "over a corpus"(asking) {
      const { choices } = await apiOf(asking).chatCompletionNonStream(
        { model: asking.corpusModel, messages: ask(QUESTION), stream: false },
        signal,
      );
      isAnswered(choices[0]!.message.content);
    },
    async "a forced call"(asking) {
      const { choices } = await apiOf(asking).chatCompletionNonStream(
        {
          model: asking.model,
          messages: ask(WEATHER_QUESTION),
          stream: false,
          tools: [WEATHER_TOOL],
          tool_choice: "required",
          max_tokens: 80,
        },
        signal,
      );
      const [call] = choices[0]!.message.tool_calls ?? [];
      assert.equal(call?.type === "function" && call.function.name, "get_weather");
    },
    async embeddings(asking) {
      const { data } = await apiOf(asking).embed({ model: "all-MiniLM-L6-v2", input: [HELLO] });
      isVector(data[0]!.embedding);
    },
  },
};
