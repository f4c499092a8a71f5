import { strict as assert } from "node:assert";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embed, generateText, Output, stepCountIs, streamText, tool } from "ai";
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

const compatible = ({ baseURL }: Asking) => createOpenAICompatible({ name: "kvsplice", baseURL, supportsStructuredOutputs: true });
const responses = ({ baseURL }: Asking) => createOpenAI({ baseURL, apiKey: API_KEY });
const sdkTool = (answer: (city: string) => string) =>
  tool({ description: "The weather in a city now", inputSchema: Weather, execute: async ({ city }) => answer(city) });

export const aiSdk: Client = {
  name: "AI SDK",
  packages: ["ai", "@ai-sdk/openai-compatible"],
  run: {
    async chat(asking) {
      isText((await generateText({ model: compatible(asking)(asking.model), prompt: HELLO })).text);
    },
    async stream(asking) {
      isText(await streamText({ model: compatible(asking)(asking.model), prompt: HELLO }).text);
    },
    async "over a corpus"(asking) {
      isAnswered((await generateText({ model: compatible(asking)(asking.corpusModel), prompt: QUESTION })).text);
    },
    async "JSON Schema"(asking) {
      isLamp(
        (await generateText({ model: compatible(asking)(asking.model), output: Output.object({ schema: Lamp }), prompt: LAMP_QUESTION }))
          .output,
      );
    },
    async "a forced call"(asking) {
      const { toolCalls } = await generateText({
        model: compatible(asking)(asking.model),
        tools: { get_weather: sdkTool(() => "") },
        toolChoice: "required",
        maxOutputTokens: 80,
        prompt: WEATHER_QUESTION,
      });
      assert.equal(toolCalls[0]?.toolName, "get_weather");
    },
    async "a loop of tools"(asking) {
      const weather = weatherTool();
      const { text } = await generateText({
        model: compatible(asking)(asking.toolModel),
        tools: { get_weather: sdkTool(weather.answer) },
        stopWhen: stepCountIs(3),
        prompt: WEATHER_QUESTION,
      });
      isLoop(weather.asked, text);
    },
    async embeddings(asking) {
      const { embedding } = await embed({ model: compatible(asking).textEmbeddingModel("all-MiniLM-L6-v2"), value: HELLO });
      isVector(embedding);
    },
  },
};

export const aiSdkResponses: Client = {
  name: "AI SDK over responses",
  packages: ["ai", "@ai-sdk/openai"],
  run: {
    async chat(asking) {
      isText((await generateText({ model: responses(asking)(asking.model), prompt: HELLO })).text);
    },
    async stream(asking) {
      isText(await streamText({ model: responses(asking)(asking.model), prompt: HELLO }).text);
    },
    async "over a corpus"(asking) {
      isAnswered((await generateText({ model: responses(asking)(asking.corpusModel), prompt: QUESTION })).text);
    },
    async sources(asking) {
      const { sources } = await generateText({ model: responses(asking)(asking.corpusModel), prompt: QUESTION });
      assert.equal(sources[0]?.title, "Forth Bridge");
    },
    async "JSON Schema"(asking) {
      isLamp(
        (await generateText({ model: responses(asking)(asking.model), output: Output.object({ schema: Lamp }), prompt: LAMP_QUESTION }))
          .output,
      );
    },
    async embeddings(asking) {
      const { embedding } = await embed({ model: responses(asking).textEmbeddingModel("all-MiniLM-L6-v2"), value: HELLO });
      isVector(embedding);
    },
  },
};
