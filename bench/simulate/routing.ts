import { hash, least as leastOf, type Question, type Server } from "./simulate.js";

/** A way of routing: the server of a question. */
export type Way = {
  readonly name: string;
  choose(question: Question, servers: readonly Server[], now: number, random: () => number): number;
};

/** Maximum load of a server, as a share of the mean. */
const BOUND = 1.25;

const ringOf = (question: Question, count: number) => Math.floor(hash(question.conversation * 7 + 3) * count);

/** Routing as in the proxies of examples/deploy, and as in routers that know what each server has in memory. */
export function ways(): Way[] {
  let next = 0;
  return [
    { name: "round robin", choose: (_, servers) => next++ % servers.length },
    { name: "hashing", choose: (question, servers) => ringOf(question, servers.length) },
    {
      name: "hashing, bounded load",
      choose(question, servers) {
        const running = servers.reduce((sum, server) => sum + server.running, 0);
        const most = Math.ceil((BOUND * (running + 1)) / servers.length);
        const first = ringOf(question, servers.length);
        for (let i = 0; i < servers.length; i++)
          if (servers[(first + i) % servers.length]!.running < most) return (first + i) % servers.length;
        return first;
      },
    },
    {
      // Preble (Srivatsa et al. 2024) and Mooncake's conductor (Qin et al. 2025): what is missing there, and what waits there, whichever costs least.
      name: "by what is cached",
      choose(question, servers, now) {
        let [best, least] = [0, Infinity];
        servers.forEach(({ memory, free }, i) => {
          const missing =
            question.documents.reduce((sum, document) => sum + (memory.has(document) ? 0 : 1), 0) +
            (memory.has(-question.conversation) ? 0 : 1);
          const wait = Math.max(0, leastOf(free) - now);
          let load = 0;
          for (let place = 0; place < free.length; place++) load += Math.max(0, free[place]! - now) / free.length;
          const cost = wait + 0.2 * load + missing * MISSING_MS;
          if (cost < least) [best, least] = [i, cost];
        });
        return best;
      },
    },
  ];
}

/** Approximate cost of a missing document, which is fetched. */
const MISSING_MS = 8;
