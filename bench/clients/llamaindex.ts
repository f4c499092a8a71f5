import { strict as assert } from "node:assert";
import { FunctionTool } from "@llamaindex/core/tools";
import { OpenAI, OpenAIEmbedding } from "@llamaindex/openai";
import {
  API_KEY,
  type Asking,
  type Client,
  HELLO,
  isAnswered,
  isLamp,
  isLoop,
  isText,
  isVector,
  LAMP_QUESTION,
  Lamp,
  QUESTION,
  WEATHER_QUESTION,
  Weather,
  weatherTool,
} from "./client.js";

const llmOf = ({ baseURL }: Asking, model: string, more: object = {}) =>
  new OpenAI({ model, apiKey: API_KEY, baseURL, temperature: 0, ...more } as never);
const ask = (content: string) => [{ role: "user" as const, content }];
const indexTool = (answer: (city: string) => string) =>
  FunctionTool.from(({ city }: { city: string }) => answer(city), {
    name: "get_weather",
    description: "The weather in a city now",
    parameters: Weather as never,
  });

export const llamaIndex: Client = {
  name: "LlamaIndex.TS",
  packages: ["@llamaindex/core", "@llamaindex/openai"],
  run: {
    async chat(asking) {
      isText((await llmOf(asking, asking.model).chat({ messages: ask(HELLO) })).message.content);
    },
    async stream(asking) {
      let text = "";
      for await (const { delta } of await llmOf(asking, asking.model).chat({ messages: ask(HELLO), stream: true })) text += delta;
      isText(text);
    },
    async "over a corpus"(asking) {
      isAnswered((await llmOf(asking, asking.corpusModel).chat({ messages: ask(QUESTION) })).message.content);
    },
    async "JSON Schema"(asking) {
      isLamp((await llmOf(asking, asking.model).chat({ messages: ask(LAMP_QUESTION), responseFormat: Lamp as never })).message.content);
    },
    async "a forced call"(asking) {
      const { message } = await llmOf(asking, asking.model, { additionalChatOptions: { tool_choice: "required" } }).chat({
        messages: ask(WEATHER_QUESTION),
        tools: [indexTool(() => "")],
      });
      const { toolCall } = message.options as { toolCall: { name: string }[] };
      assert.equal(toolCall[0]?.name, "get_weather");
    },
    async "a loop of tools"(asking) {
      const weather = weatherTool();
      const llm = llmOf(asking, asking.toolModel);
      const tools = [indexTool(weather.answer)];
      const { newMessages } = await llm.exec({ messages: ask(WEATHER_QUESTION), tools });
      const { message } = await llm.chat({ messages: [...ask(WEATHER_QUESTION), ...newMessages], tools });
      isLoop(weather.asked, message.content);
    },
    async embeddings({ baseURL }) {
      isVector(await new OpenAIEmbedding({ model: "all-MiniLM-L6-v2", apiKey: API_KEY, baseURL } as never).getTextEmbedding(HELLO));
    },
  },
};
