import { strict as assert } from "node:assert";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI, OpenAIEmbeddings } from "@langchain/openai";
import { createAgent } from "langchain";
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

const chatOf = ({ baseURL }: Asking, model: string) =>
  new ChatOpenAI({ model, apiKey: API_KEY, configuration: { baseURL }, temperature: 0 });

function langchainTool(answer: (city: string) => string) {
  return tool(async ({ city }) => answer(city), { name: "get_weather", description: "The weather in a city now", schema: Weather });
}

export const langchain: Client = {
  name: "LangChain.js",
  packages: ["langchain", "@langchain/openai"],
  run: {
    async chat(asking) {
      isText((await chatOf(asking, asking.model).invoke(HELLO)).text);
    },
    async stream(asking) {
      let text = "";
      for await (const chunk of await chatOf(asking, asking.model).stream(HELLO)) text += chunk.text;
      isText(text);
    },
    async "over a corpus"(asking) {
      isAnswered((await chatOf(asking, asking.corpusModel).invoke(QUESTION)).text);
    },
    async "JSON Schema"(asking) {
      isLamp(await chatOf(asking, asking.model).withStructuredOutput(Lamp, { method: "jsonSchema" }).invoke(LAMP_QUESTION));
    },
    async "a forced call"(asking) {
      const bound = chatOf(asking, asking.model).bindTools([langchainTool(() => "")], { tool_choice: "any", parallel_tool_calls: false });
      assert.equal((await bound.invoke(WEATHER_QUESTION)).tool_calls?.[0]?.name, "get_weather");
    },
    async "a loop of tools"(asking) {
      const weather = weatherTool();
      const agent = createAgent({ model: chatOf(asking, asking.toolModel), tools: [langchainTool(weather.answer)] });
      const { messages } = await agent.invoke({ messages: [{ role: "user", content: WEATHER_QUESTION }] });
      isLoop(weather.asked, messages.at(-1)!.text);
    },
    async embeddings({ baseURL }) {
      isVector(await new OpenAIEmbeddings({ model: "all-MiniLM-L6-v2", apiKey: API_KEY, configuration: { baseURL } }).embedQuery(HELLO));
    },
  },
};
