import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Document } from "@langchain/core/documents";
import { AIMessage, HumanMessage, SystemMessage, type ToolMessage } from "@langchain/core/messages";
import { tool as langchainTool } from "@langchain/core/tools";
import { FunctionTool } from "@llamaindex/core/tools";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { kvsplice } from "../../adapters/ai-sdk.js";
import { ChatKvsplice, CorpusRetriever, createSplicedDocumentsChain } from "../../adapters/langchain.js";
import { KvspliceLLM, CorpusRetriever as LlamaRetriever } from "../../adapters/llamaindex.js";
import { type BlockStore, type Model, openBlockStore } from "../../engine/index.js";
import { answer, type Corpus, openCorpus } from "../../rag/index.js";
import { fakeEmbedder } from "../support/rag/fakes.js";
import { wordyModel } from "../support/server/fake-serving.js";

let model: Model;
let store: BlockStore;
let corpus: Corpus;
const folder = mkdtempSync(join(tmpdir(), "kvsplice-adapters-"));
beforeAll(async () => {
  ({ model } = await wordyModel());
  store = openBlockStore({ memory: { budget: 2 ** 26 } });
  corpus = await openCorpus(folder, { model, store, embedder: fakeEmbedder(), create: true });
  await corpus.precompute(["examples/corpus/forth-bridge.md", "examples/corpus/bell-rock-lighthouse.md"]);
});
afterAll(async () => {
  await corpus.close();
  await store.close();
  await model.close();
  rmSync(folder, { recursive: true });
});

const Lamp = z.object({ colour: z.enum(["red", "white"]), height: z.int().min(1).max(99) });
const Pier = z.object({ pier: z.enum(["Dollis", "Marten"]) });
const sampling = { temperature: 1, seed: 5 };

describe("answers over documents from elsewhere", () => {
  const documents = [
    { title: "Ferry", text: "The ferry at Dollis crosses the river in four minutes.", metadata: { id: 7 } },
    { title: "Lamp", text: "The lamp of Brenna Point was lit in October." },
  ];

  test("need only a store, and read documents of earlier questions from it", async () => {
    const ask = async (question: string, given: typeof documents) => {
      const found = await answer({ model, store, question, documents: given, maxNewTokens: 6 });
      return { text: await found.text, stats: await found.stats };
    };
    const first = await ask("How long does it take?", documents);
    const again = await ask("When was it lit?", [...documents].reverse());
    expect(first.text).toMatch(/^( [a-z]+)+$/);
    expect(first.stats.encoded_tokens).toBeGreaterThan(20);
    expect(again.stats).toMatchObject({ encoded_tokens: 0, cached_tokens: first.stats.cached_tokens + first.stats.encoded_tokens });
  });

  test("are refused if they do not fit in the context", async () => {
    await expect(answer({ model, question: "What?", documents: [{ text: "word ".repeat(20_000) }] })).rejects.toMatchObject({
      code: "too_long",
    });
  });
});

describe("LangChain.js", () => {
  const chat = () => new ChatKvsplice({ model, store, sampling, maxTokens: 60 });
  const ferries = langchainTool(async ({ pier }: { pier: string }) => `From ${pier} at noon.`, {
    name: "ferries",
    description: "When ferries leave",
    schema: Pier,
  });

  test("a chat model answers, as a whole and streamed, and counts tokens", async () => {
    const messages = [new SystemMessage("Be brief."), new HumanMessage("Hello")];
    const whole = await chat().invoke(messages);
    let streamed = "";
    for await (const chunk of await chat().stream(messages)) streamed += chunk.text;
    expect(streamed).toBe(whole.text);
    expect(whole.usage_metadata).toMatchObject({ output_tokens: 60 });
    expect(whole.response_metadata["finish_reason"]).toBe("length");
  });

  test("tools are called, and their results are passed back", async () => {
    const bound = chat().bindTools([ferries], { tool_choice: "any" });
    const asked = new HumanMessage("When does it leave?");
    const called = await bound.invoke([asked] as never);
    const [call] = called.tool_calls!;
    expect(Pier.parse(call!.args)).toBeTruthy();
    const result = (await ferries.invoke(call as never)) as ToolMessage;
    expect(result.content).toMatch(/^From (Dollis|Marten) at noon\.$/);
    const last = await chat().invoke([asked, new AIMessage({ content: "", tool_calls: called.tool_calls! }), result]);
    expect(last.text).toMatch(/[a-z]/);
  });

  test("structured output always validates", async () => {
    for (let seed = 1; seed < 5; seed++) {
      const structured = new ChatKvsplice({ model, sampling: { temperature: 1, seed } }).withStructuredOutput(Lamp as never);
      expect(Lamp.safeParse(await (structured as { invoke(question: string): Promise<unknown> }).invoke("A lamp")).success).toBe(true);
    }
  });

  test("a retriever finds chunks of the corpus, and a chain splices them", async () => {
    const documents = await new CorpusRetriever({ corpus, topK: 3 }).invoke("Who designed the Forth Bridge?");
    expect(documents).toHaveLength(3);
    expect(documents[0]!.metadata).toMatchObject({
      source: expect.stringMatching(/\.md#\d+$/) as string,
      title: expect.any(String) as string,
    });
    const chain = createSplicedDocumentsChain({ model, store, maxNewTokens: 5 });
    const input = {
      input: "Who?",
      context: [...documents, new Document({ pageContent: "The ferry takes four minutes.", metadata: { title: "Ferry" } })],
    };
    const parts: string[] = [];
    for await (const part of await chain.stream(input)) parts.push(part);
    expect(parts.length).toBeGreaterThan(1);
    expect(parts.join("")).toBe(await chain.invoke(input));
  });
});

describe("the AI SDK", () => {
  const languageModel = () => kvsplice({ model, store, sampling, maxTokens: 60 });
  const ferries = tool({ description: "When ferries leave", inputSchema: Pier, execute: async ({ pier }) => `From ${pier} at noon.` });

  test("text is generated, as a whole and streamed, and tokens are counted", async () => {
    const whole = await generateText({ model: languageModel(), system: "Be brief.", prompt: "Hello", temperature: 1, seed: 5 });
    const stream = streamText({ model: languageModel(), system: "Be brief.", prompt: "Hello", temperature: 1, seed: 5 });
    expect(await stream.text).toBe(whole.text);
    expect(whole.usage.outputTokens).toBe(60);
    expect(whole.finishReason).toBe("length");
  });

  test("an object that matches a schema is generated", async () => {
    const { output } = await generateText({ model: languageModel(), output: Output.object({ schema: Lamp }), prompt: "A lamp" });
    expect(Lamp.safeParse(output).success).toBe(true);
  });

  test("a tool loop runs: a call, its result, an answer", async () => {
    const { steps, text } = await generateText({
      model: languageModel(),
      tools: { ferries },
      prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? ("required" as const) : ("none" as const) }),
      stopWhen: stepCountIs(3),
      prompt: "When does it leave?",
    });
    expect(steps).toHaveLength(2);
    expect(steps[0]!.toolResults.length).toBeGreaterThan(0);
    for (const { output } of steps[0]!.toolResults) expect(output).toMatch(/^From (Dollis|Marten) at noon\.$/);
    expect(text).toMatch(/[a-z]/);
  });

  test("calls are streamed", async () => {
    const { toolCalls } = streamText({
      model: languageModel(),
      tools: { ferries },
      toolChoice: { type: "tool", toolName: "ferries" },
      prompt: "When?",
    });
    expect((await toolCalls).map(({ toolName, input }) => [toolName, Pier.safeParse(input).success])).toEqual([["ferries", true]]);
  });
});

describe("LlamaIndex.TS", () => {
  const llm = () => new KvspliceLLM({ model, store, sampling, maxTokens: 60 });
  const messages = [{ role: "user" as const, content: "When does it leave?" }];

  test("an LLM answers, as a whole and streamed", async () => {
    const { message } = await llm().chat({ messages });
    let streamed = "";
    for await (const { delta } of await llm().chat({ messages, stream: true })) streamed += delta;
    expect(streamed).toBe(message.content);
    expect((await llm().complete({ prompt: "Hello" })).text).toMatch(/[a-z]/);
  });

  test("a response format is enforced", async () => {
    const { message } = await llm().chat({ messages, responseFormat: Lamp });
    expect(Lamp.safeParse(JSON.parse(message.content as string)).success).toBe(true);
  });

  test("the model is told about tools, and their results are passed back", async () => {
    const ferries = FunctionTool.from(({ pier }: { pier: string }) => `From ${pier} at noon.`, {
      name: "ferries",
      description: "When ferries leave",
      parameters: Pier,
    });
    const toolCall = { id: "1", name: "ferries", input: { pier: "Dollis" } };
    const { message } = await llm().chat({
      tools: [ferries],
      messages: [
        ...messages,
        { role: "assistant", content: "", options: { toolCall: [toolCall] } },
        { role: "user", content: "", options: { toolResult: { id: "1", result: "At noon.", isError: false } } },
      ],
    });
    expect(message.content).toMatch(/[a-z]/);
  });

  test("a retriever finds chunks of the corpus", async () => {
    const nodes = await new LlamaRetriever({ corpus, topK: 2 }).retrieve("Who designed the Forth Bridge?");
    expect(nodes.map(({ node, score }) => [typeof node.metadata["source"], typeof score])).toEqual([
      ["string", "number"],
      ["string", "number"],
    ]);
  });
});

describe("an example", () => {
  const run = (name: string) => {
    const { stdout, stderr, status } = spawnSync(
      process.execPath,
      ["--import", "tsx", `examples/adapters/${name}.ts`, join(folder, "articles.kv")],
      { encoding: "utf8" },
    );
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    return stdout.trim().split("\n");
  };

  test.each(["langchain", "llamaindex"])("%s answers from a corpus in at most 30 lines", (name) => {
    expect(readFileSync(`examples/adapters/${name}.ts`, "utf8").trim().split("\n").length).toBeLessThanOrEqual(30);
    const [said, sources] = run(name);
    expect(said).toMatch(/Fowler|Baker/);
    expect(sources).toMatch(/forth-bridge\.md#\d/);
  });

  test("ai-sdk generates an object and calls a tool in at most 30 lines", () => {
    expect(readFileSync("examples/adapters/ai-sdk.ts", "utf8").trim().split("\n").length).toBeLessThanOrEqual(30);
    const [object, result] = run("ai-sdk");
    expect(JSON.parse(object!)).toEqual({
      colour: expect.stringMatching(/^(red|green|white)$/) as string,
      height: expect.any(Number) as number,
    });
    expect(result).toMatch(/^From (Dollis|Marten) at noon\.$/);
  });
});
