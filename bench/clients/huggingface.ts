import { strict as assert } from "node:assert";
import { InferenceClient } from "@huggingface/inference";
import {
  type Asking,
  type Client,
  HELLO,
  isAnswered,
  isLamp,
  isLoop,
  isText,
  LAMP_QUESTION,
  LAMP_SCHEMA,
  QUESTION,
  WEATHER_QUESTION,
  WEATHER_TOOL,
  weatherTool,
} from "./client.js";

const clientOf = ({ baseURL }: Asking) => new InferenceClient(undefined, { endpointUrl: baseURL });
const ask = (content: string) => [{ role: "user", content }];

export const huggingface: Client = {
  name: "huggingface/inference",
  packages: ["@huggingface/inference"],
  run: {
    async chat(asking) {
      const { choices } = await clientOf(asking).chatCompletion({ model: asking.model, messages: ask(HELLO) });
      isText(choices[0]!.message.content);
    },
    async stream(asking) {
      let text = "";
      for await (const { choices } of clientOf(asking).chatCompletionStream({ model: asking.model, messages: ask(HELLO) }))
        text += choices[0]?.delta.content ?? "";
      isText(text);
    },
    async "over a corpus"(asking) {
      const { choices } = await clientOf(asking).chatCompletion({ model: asking.corpusModel, messages: ask(QUESTION) });
      isAnswered(choices[0]!.message.content);
    },
    async "JSON Schema"(asking) {
      const { choices } = await clientOf(asking).chatCompletion({
        model: asking.model,
        messages: ask(LAMP_QUESTION),
        response_format: { type: "json_schema", json_schema: { name: "lamp", schema: LAMP_SCHEMA } },
      });
      isLamp(choices[0]!.message.content);
    },
    async "a forced call"(asking) {
      const { choices } = await clientOf(asking).chatCompletion({
        model: asking.model,
        messages: ask(WEATHER_QUESTION),
        tools: [WEATHER_TOOL],
        tool_choice: "required",
        max_tokens: 80,
      });
      assert.equal(choices[0]!.message.tool_calls?.[0]?.function.name, "get_weather");
    },
    async "a loop of tools"(asking) {
      const weather = weatherTool();
      const client = clientOf(asking);
      const first = await client.chatCompletion({ model: asking.toolModel, messages: ask(WEATHER_QUESTION), tools: [WEATHER_TOOL] });
      const { message } = first.choices[0]!;
      const results = (message.tool_calls ?? []).map(({ id, function: { arguments: given } }) => ({
        role: "tool",
        tool_call_id: id,
        content: weather.answer((JSON.parse(String(given)) as { city: string }).city),
      }));
      const second = await client.chatCompletion({
        model: asking.toolModel,
        messages: [...ask(WEATHER_QUESTION), message, ...results] as never,
        tools: [WEATHER_TOOL],
      });
      isLoop(weather.asked, second.choices[0]!.message.content);
    },
  },
};
