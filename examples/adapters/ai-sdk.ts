/** The AI SDK: an object that matches a schema, and a required tool call. */
import { generateText, Output, stepCountIs, tool } from "ai";
import { kvsplice } from "kvsplice/ai-sdk";
import { loadModel } from "kvsplice/engine";
import { z } from "zod";

const loaded = await loadModel();
const model = kvsplice({ model: loaded });

const lamp = z.object({ colour: z.enum(["red", "green", "white"]), height: z.int().min(1).max(99) });
const { output } = await generateText({ model, output: Output.object({ schema: lamp }), prompt: "Describe the lamp of a lighthouse." });
console.log(JSON.stringify(output));

const inputSchema = z.object({ pier: z.enum(["Dollis", "Marten"]) });
const ferries = tool({ description: "When the next ferry leaves", inputSchema, execute: async ({ pier }) => `From ${pier} at noon.` });
const { toolResults } = await generateText({
  model,
  tools: { ferries },
  toolChoice: "required",
  stopWhen: stepCountIs(1),
  maxOutputTokens: 60,
  prompt: "When does the next ferry leave from Dollis?",
});
console.log(toolResults[0]?.output);

await loaded.close();
