/**
 * A server with 1, 4, 8 and 16 concurrent users, each asking the next question after its answer: requests and tokens per
 * second, time to the first token and per token, and goodput (requests per second within both limits). First, whether
 * concurrent answers equal those given one at a time, token for token.
 *
 *     npx tsx cli/main.ts precompute examples/corpus --store .kvsplice/load.kv
 *     npx tsx bench/load.ts --seconds 20
 *
 * Two kinds of answers: short ones over ten documents (examples/questions.jsonl), and chats of 64 tokens.
 */
import type OpenAI from "openai";
import { MODEL, numberOption, quantile, questions, startServer, type Timed, textOption, timed } from "./serving.js";

const USERS = [1, 4, 8, 16];
const FIRST_TOKEN_LIMIT_ms = numberOption("first-limit", 2_000);
const TOKEN_LIMIT_ms = numberOption("token-limit", 150);
const seconds = numberOption("seconds", 20);

const SUBJECTS = [
  "the sea",
  "a mountain hut",
  "the night train",
  "an old clock",
  "the baker",
  "a lighthouse",
  "the first snow",
  "a lost letter",
];

const asked = questions();
const workloads: Record<string, (i: number) => object> = {
  documents: (i) => ({ messages: [{ role: "user", content: asked[i % asked.length] }], corpus: { documents: 10 } }),
  chat: (i) => ({
    messages: [{ role: "user", content: `Write a long story about ${SUBJECTS[i % SUBJECTS.length]}, number ${i}.` }],
    max_tokens: 64,
  }),
};

const server = await startServer("--store", textOption("store", ".kvsplice/load.kv"));
try {
  await compareAnswers(server.client);
  for (const [name, request] of Object.entries(workloads)) {
    const rows: Record<string, string | number>[] = [];
    let alone = 0;
    for (const users of USERS) {
      const { answers, within, tokens } = await run(server.client, users, request);
      alone ||= tokens;
      const good = within.filter(({ first_ms, token_ms }) => first_ms <= FIRST_TOKEN_LIMIT_ms && token_ms <= TOKEN_LIMIT_ms);
      const [first, token] = [
        answers.map(({ first_ms }) => first_ms),
        answers.filter(({ token_ms }) => token_ms > 0).map(({ token_ms }) => token_ms),
      ];
      rows.push({
        users,
        requests: within.length,
        "requests/s": (within.length / seconds).toFixed(2),
        "tokens/s": (tokens / seconds).toFixed(1),
        "of one user": (tokens / alone).toFixed(2),
        "TTFT p50 ms": quantile(first, 0.5).toFixed(0),
        p95: quantile(first, 0.95).toFixed(0),
        "TPOT p50 ms": quantile(token, 0.5).toFixed(1),
        "p95 ": quantile(token, 0.95).toFixed(1),
        "goodput/s": (good.length / seconds).toFixed(2),
      });
    }
    console.log(
      `\n${name}: goodput counts answers within ${FIRST_TOKEN_LIMIT_ms} ms to the first token and ${TOKEN_LIMIT_ms} ms per token`,
    );
    console.table(rows);
  }
} finally {
  await server.stop();
}

type Run = {
  /** All answers, including those that ended too late, of which only the times count. */
  readonly answers: readonly Timed[];
  /** Of the answers that ended in time. */
  readonly within: readonly Timed[];
  /** Tokens that arrived in time, of any answer. */
  readonly tokens: number;
};

/** Each user asks until the time is over, and waits for the end of the last answer. */
async function run(client: OpenAI, users: number, request: (i: number) => object): Promise<Run> {
  const [answers, within]: [Timed[], Timed[]] = [[], []];
  let next = 0;
  let tokens = 0;
  const over = performance.now() + seconds * 1000;
  const inTime = () => performance.now() < over;
  const user = async () => {
    while (inTime()) {
      const answer = await timed(client, request(next++), () => inTime() && tokens++);
      answers.push(answer);
      if (inTime()) within.push(answer);
    }
  };
  await Promise.all(Array.from({ length: users }, user));
  return { answers, within, tokens };
}

async function compareAnswers(client: OpenAI): Promise<void> {
  const ask = async (content: string) => {
    const params = {
      model: MODEL,
      messages: [{ role: "user", content }],
      corpus: true,
      logprobs: true,
    } as unknown as OpenAI.ChatCompletionCreateParamsNonStreaming;
    const { choices } = await client.chat.completions.create(params);
    return choices[0]!.logprobs!.content!.map(({ token }) => token).join("|");
  };
  const alone: string[] = [];
  for (const question of asked) alone.push(await ask(question));
  const together: string[] = [];
  for (let start = 0; start < asked.length; start += 8) together.push(...(await Promise.all(asked.slice(start, start + 8).map(ask))));
  const equal = asked.filter((_, i) => alone[i] === together[i]).length;
  console.log(`${equal} of ${asked.length} answers of 8 concurrent users equal those given one at a time, token for token.`);
  asked.forEach(
    (question, i) => alone[i] !== together[i] && console.log(`  ${question}\n    alone:    ${alone[i]}\n    together: ${together[i]}`),
  );
}
