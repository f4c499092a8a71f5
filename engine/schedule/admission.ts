import { cancelledError } from "../../plan/index.js";
import { type Client, Shares } from "./shares.js";

/** How often a waiting answer may be overtaken by later ones. */
const MAX_PASSED_OVER = 4;

type Waiting = {
  readonly client: Client | undefined;
  readonly prepare: () => Promise<unknown>;
  readonly admit: () => void;
  preparing: boolean;
  ready: boolean;
  passedOver: number;
};

/**
 * Limits how many answers run at once. Among those waiting, the first few prepare their blocks, and the one whose blocks are in
 * memory goes first, until an earlier one has been overtaken too often. Where clients share, all of that comes second to
 * whose turn it is: the client with the least computed so far. No client takes the last place, so that a new client finds one.
 */
export class Admission {
  private readonly queue: Waiting[] = [];
  private inside = 0;
  private readonly held = new Map<string, number>();

  constructor(
    private readonly places: number,
    private readonly shares = new Shares(),
  ) {}

  get running(): number {
    return this.inside;
  }

  get queued(): number {
    return this.queue.length;
  }

  /**
   * Resolves when there is a place; `leave` returns it.
   * @param prepare started while waiting; if it fails, the error is left to whoever awaits it
   * @throws KvspliceError `cancelled`
   */
  async enter(prepare: () => Promise<unknown>, signal?: AbortSignal, client?: Client): Promise<void> {
    if (signal?.aborted) throw cancelledError(signal);
    this.shares.enter(client);
    if (this.mayEnter(client)) return this.letIn(client);
    await new Promise<void>((resolve, reject) => {
      const waiting: Waiting = {
        client,
        prepare,
        admit: () => {
          signal?.removeEventListener("abort", giveUp);
          resolve();
        },
        preparing: false,
        ready: false,
        passedOver: 0,
      };
      const giveUp = () => {
        this.queue.splice(this.queue.indexOf(waiting), 1);
        this.shares.leave(client);
        reject(cancelledError(signal));
      };
      signal?.addEventListener("abort", giveUp, { once: true });
      this.queue.push(waiting);
      this.prepareFirst();
    });
  }

  /** @param client the client that entered */
  leave(client?: Client): void {
    this.inside--;
    if (client) this.held.set(client.id, this.held.get(client.id)! - 1);
    this.shares.leave(client);
    const next = this.takeNext();
    if (next) {
      this.letIn(next.client);
      next.admit();
    }
    this.prepareFirst();
  }

  private mayEnter(client: Client | undefined): boolean {
    const isFirst = !client || (this.held.get(client.id) ?? 0) === 0;
    return this.inside < (isFirst ? this.places : Math.max(1, this.places - 1));
  }

  private letIn(client: Client | undefined): void {
    this.inside++;
    if (client) this.held.set(client.id, (this.held.get(client.id) ?? 0) + 1);
  }

  private takeNext(): Waiting | undefined {
    const may = this.queue.filter(({ client }) => this.mayEnter(client));
    const least = Math.min(...may.map(({ client }) => this.shares.countOf(client)));
    const candidates = may.filter(({ client }) => this.shares.countOf(client) === least);
    const [oldest] = candidates;
    if (!oldest) return undefined;
    const chosen = oldest.passedOver >= MAX_PASSED_OVER ? oldest : (candidates.find(({ ready }) => ready) ?? oldest);
    for (const passed of candidates.slice(0, candidates.indexOf(chosen))) passed.passedOver++;
    this.queue.splice(this.queue.indexOf(chosen), 1);
    return chosen;
  }

  /** Only as many as there are places, because their blocks take memory. */
  private prepareFirst(): void {
    for (const waiting of this.queue.slice(0, this.places)) {
      if (waiting.preparing) continue;
      waiting.preparing = true;
      waiting.prepare().then(
        () => (waiting.ready = true),
        () => (waiting.ready = true), // a failure appears when its turn comes
      );
    }
  }
}
