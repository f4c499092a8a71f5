import { strict as assert } from "node:assert";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
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
  WEATHER_TOOL,
  weatherTool,
} from "./client.js";

const clientOf = ({ baseURL }: Asking) => new OpenAI({ baseURL, apiKey: API_KEY });
const ask = (content: string) => [{ role: "user" as const, content }];

export const openai: Client = {
  name: "openai",
  packages: ["openai"],
  run: {
    async chat(asking) {
      const { choices } = await clientOf(asking).chat.completions.create({ model: asking.model, messages: ask(HELLO) });
      isText(choices[0]!.message.content);
    },
    async stream(asking) {
      const stream = clientOf(asking).chat.completions.stream({ model: asking.model, messages: ask(HELLO) });
      isText(await stream.finalContent());
    },
    async "over a corpus"(asking) {
      const { choices } = await clientOf(asking).chat.completions.create({ model: asking.corpusModel, messages: ask(QUESTION) });
      isAnswered(choices[0]!.message.content);
    },
    async sources(asking) {
      const { choices } = await clientOf(asking).chat.completions.create({ model: asking.corpusModel, messages: ask(QUESTION) });
      assert.equal(choices[0]!.message.annotations?.[0]?.url_citation.title, "Forth Bridge");
    },
    async "JSON Schema"(asking) {
      const { choices } = await clientOf(asking).chat.completions.parse({
        model: asking.model,
        messages: ask(LAMP_QUESTION),
        response_format: zodResponseFormat(Lamp, "lamp"),
      });
      isLamp(choices[0]!.message.parsed);
    },
    async "a forced call"(asking) {
      const { choices } = await clientOf(asking).chat.completions.create({
        model: asking.model,
        messages: ask(WEATHER_QUESTION),
        tools: [WEATHER_TOOL],
        tool_choice: "required",
        parallel_tool_calls: false,
      });
      const [call] = choices[0]!.message.tool_calls!;
      assert.equal(call?.type === "function" && call.function.name, "get_weather");
    },
    async "a loop of tools"(asking) {
      const weather = weatherTool();
      const call = ({ city }: { city: string }) => weather.answer(city);
      const runner = clientOf(asking).chat.completions.runTools({
        model: asking.toolModel,
        messages: ask(WEATHER_QUESTION),
        tools: [{ ...WEATHER_TOOL, function: { ...WEATHER_TOOL.function, parse: JSON.parse, function: call } }],
      });
      isLoop(weather.asked.length > 0 ? weather.asked : (await runner.done(), weather.asked), await runner.finalContent());
    },
    async embeddings(asking) {
      const { data } = await clientOf(asking).embeddings.create({ model: "all-MiniLM-L6-v2", input: [HELLO] });
      isVector(data[0]!.embedding);
    },
  },
};
