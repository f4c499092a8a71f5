/** Whose work it is, and its share relative to others: weight 2 gets twice as much as weight 1. */
export type Client = { readonly id: string; readonly weight: number };

/**
 * The most credit that a returning client can have: about one prompt. Its first token then comes before what others have
 * begun; with the counters alone it would take turns with them, pass by pass, and be twice as late.
 */
export const CREDIT_TOKENS = 2_048;

/**
 * Virtual token counters (Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024): what is computed for a client
 * counts against its weight, and among clients with work waiting the one with the lowest count is served first. A returning
 * client starts slightly below the lowest active count, so that nobody can save up a claim to the whole machine.
 */
export class Shares {
  private readonly counts = new Map<string, number>();
  /** Answers and encodings in progress, for clients that have any. */
  private readonly inHand = new Map<string, number>();

  /** A piece of a client's work starts waiting. */
  enter(client: Client | undefined): void {
    if (!client) return;
    const held = this.inHand.get(client.id) ?? 0;
    if (held === 0) this.counts.set(client.id, Math.max(this.countOf(client), this.leastAtWork - CREDIT_TOKENS / client.weight));
    this.inHand.set(client.id, held + 1);
  }

  /** It has ended. */
  leave(client: Client | undefined): void {
    if (!client) return;
    const held = this.inHand.get(client.id)! - 1;
    if (held > 0) this.inHand.set(client.id, held);
    else this.inHand.delete(client.id);
  }

  computed(client: Client | undefined, tokens: number): void {
    if (client) this.counts.set(client.id, this.countOf(client) + tokens / client.weight);
  }

  /** Tokens divided by weight; one common count for work that belongs to no client. */
  countOf(client: Client | undefined): number {
    return client ? (this.counts.get(client.id) ?? 0) : 0;
  }

  private get leastAtWork(): number {
    const counts = [...this.inHand.keys()].map((id) => this.counts.get(id)!);
    return counts.length > 0 ? Math.min(...counts) : 0;
  }
}
