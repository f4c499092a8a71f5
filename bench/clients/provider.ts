/** kvsplice's own provider with the AI SDK's latest release: text, a stream, an object of a schema, and a loop with a forced first tool call. */
import { strict as assert } from "node:assert";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { kvsplice } from "../../dist/adapters/ai-sdk.js";
import { loadModel } from "../../dist/engine/index.js";
import { HELLO, isLamp, isText, LAMP_QUESTION, Lamp, WEATHER_QUESTION, Weather, weatherTool } from "./client.js";

const loaded = await loadModel();
const model = kvsplice({ model: loaded });

isText((await generateText({ model, prompt: HELLO, maxOutputTokens: 20 })).text);
let streamed = "";
for await (const delta of streamText({ model, prompt: HELLO, maxOutputTokens: 20 }).textStream) streamed += delta;
isText(streamed);
isLamp((await generateText({ model, output: Output.object({ schema: Lamp }), prompt: LAMP_QUESTION })).output);

const weather = weatherTool();
const tools = {
  get_weather: tool({ description: "The weather in a city now", inputSchema: Weather, execute: async ({ city }) => weather.answer(city) }),
};
const { steps } = await generateText({
  model,
  tools,
  prompt: WEATHER_QUESTION,
  maxOutputTokens: 60,
  stopWhen: stepCountIs(2),
  prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? ("required" as const) : ("none" as const) }),
});
assert.equal(steps.length, 2);
assert.equal(weather.asked.length, 1);
isText(steps[1]!.text);
console.log("text, stream, object, loop of a forced call: yes");
await loaded.close();
