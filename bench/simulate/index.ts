/**
 * A simulation of questions over many servers, with the speeds measured on one (docs/speed.md, docs/store.md, docs/server.md), by
 * routing method.
 *
 *     npx tsx bench/simulate/index.ts
 *
 * Corpora and documents are requested by Zipf's law, conversations return turn by turn, and for 2 s of every 12 there are three times
 * as many questions. A hundred thousand questions per second are simulated as a thousandth of them over a thousandth of the servers;
 * docs/scale.md explains what that cannot show.
 */
import { ways } from "./routing.js";
import { type Load, type Speeds, simulate } from "./simulate.js";

/** The included model on 2 cores: docs/server.md (first token, per token by 1 to 8), docs/store.md (int8 from Redis: 15 MB of 1,300 tokens in 48 ms). */
const SPEEDS: Speeds = {
  first_ms: 68,
  token_ms: (together) => 6 + (together - 1) * 2.5,
  encode_ms: 1.2,
  fetch_ms: 48 / 1_300,
  bytesPerToken: 12_000,
  places: 8,
};

const BASE: Omit<Load, "servers" | "perSecond" | "seconds"> = {
  corpora: 50,
  documents: 2_000,
  exponent: 0.9,
  documentTokens: 130,
  documentsPerQuestion: 10,
  turns: 8,
  answerTokens: 40,
  burst: { seconds: 2, every: 12, times: 3 },
  memoryTokens: (512 * 2 ** 20) / 12_000,
  encodedShare: 1,
  goal: { first_ms: 2_000, token_ms: 150 },
};

const SCALES = [
  { name: "10 questions per second", servers: 4, perSecond: 10, seconds: 240, times: 1 },
  { name: "1,000 questions per second", servers: 400, perSecond: 1_000, seconds: 12, times: 1 },
  { name: "100,000 questions per second", servers: 40, perSecond: 100, seconds: 48, times: 1_000 },
];

for (const { name, times, ...scale } of SCALES) {
  const load: Load = { ...BASE, ...scale };
  console.log(`\n${name}: ${(scale.servers * times).toLocaleString("en")} servers`);
  console.table(
    ways().map((way) => {
      const { p50_ms, p99_ms, good, inMemory, moved_bytes } = simulate(load, SPEEDS, way);
      return {
        routing: way.name,
        "p50 ms": Math.round(p50_ms),
        "p99 ms": Math.round(p99_ms),
        good: `${(100 * good).toFixed(1)} %`,
        "in memory": `${(100 * inMemory).toFixed(1)} %`,
        "GB/s moved": ((times * moved_bytes) / load.seconds / 1e9).toFixed(2),
      };
    }),
  );
}

console.log("\nDocuments not yet encoded, at 10 questions per second over 4 servers, hashing with bounded load");
console.table(
  [0, 0.01, 0.05, 0.1].map((share) => {
    const { p50_ms, p99_ms, good } = simulate(
      { ...BASE, servers: 4, perSecond: 10, seconds: 300, encodedShare: 1 - share },
      SPEEDS,
      ways()[2]!,
    );
    return {
      "not encoded": `${100 * share} %`,
      "p50 ms": Math.round(p50_ms),
      "p99 ms": Math.round(p99_ms),
      good: `${(100 * good).toFixed(1)} %`,
    };
  }),
);

/**
 * One long prefill over several machines (KV-Runahead, Cho et al. 2024): machine i computes its part of the prompt once it has the KV
 * of the machines before it. Attention grows with the context, so parts are cut to end at the same time. The KV of earlier parts is
 * sent while it is computed.
 */
const TOKENS = 8_000;
const ATTENTION_SHARE = 0.5 / TOKENS;
const NETWORK_BYTES_PER_MS = 125_000;
console.log(`\nOne prefill of ${TOKENS.toLocaleString("en")} tokens, split over machines (1 Gbit/s between them)`);
console.table(
  [1, 2, 4, 8].map((machines) => {
    const cost = (from: number, to: number) => SPEEDS.encode_ms * (to - from + (ATTENTION_SHARE * (to ** 2 - from ** 2)) / 2);
    const share = cost(0, TOKENS) / machines;
    let [from, ready, last] = [0, 0, 0];
    for (let i = 0; i < machines; i++) {
      let to = from;
      while (to < TOKENS && cost(from, to) < share) to += 10;
      if (i === machines - 1) to = TOKENS;
      // It computes while waiting, and cannot end before the KV of all earlier parts has arrived.
      const sent = (from * SPEEDS.bytesPerToken) / NETWORK_BYTES_PER_MS;
      ready = Math.max(cost(from, to), ready + sent / machines);
      last = ready;
      from = to;
    }
    return {
      machines,
      s: (last / 1000).toFixed(2),
      "times faster": (cost(0, TOKENS) / last).toFixed(2),
      "spliced documents, s": (SPEEDS.first_ms / 1000).toFixed(2),
    };
  }),
);
