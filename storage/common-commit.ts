/** LMDB's database, as far as it is needed: these types are public, and lmdb's own do not compile in every project. */
type Transactions = { transactionSync<T>(change: () => T): T };

type Waiting = {
  readonly change: () => unknown;
  readonly bytes: number;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
};

/** Written in one transaction: the event loop waits while it is flushed. */
const MOST_BYTES = 2 ** 24;

/**
 * Commits changes of the same time in one transaction: a flush to disk takes some milliseconds, however little changed. LMDB's
 * own asynchronous transactions would do so in a thread, but if the disk is full, they leave a rejection that nobody can handle.
 */
export class CommonCommit {
  private waiting: Waiting[] = [];

  constructor(private readonly root: Transactions) {}

  /**
   * Resolves when the change is on disk.
   *
   * @param bytes that it writes, if they are many
   * @throws what the change throws, or why LMDB could not commit it; then it has no effect
   */
  run<T>(change: () => T, bytes = 0): Promise<T> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ change, bytes, resolve: resolve as Waiting["resolve"], reject });
      if (this.waiting.length === 1) this.commitLater();
    });
  }

  /** Commits now all that waits. */
  flush(): void {
    while (this.waiting.length > 0) this.commitSome();
  }

  private commitLater(): void {
    setImmediate(() => {
      this.commitSome();
      if (this.waiting.length > 0) this.commitLater();
    });
  }

  private commitSome(): void {
    this.commitAll(this.waiting.splice(0, this.most()));
  }

  private commitAll(some: readonly Waiting[]): void {
    if (some.length < 2) return some.forEach((only) => this.commitAlone(only));
    try {
      const values = this.root.transactionSync(() => some.map(({ change }) => change()));
      for (const [index, { resolve }] of some.entries()) resolve(values[index]);
    } catch {
      // One of them failed, and none has any effect: in halves, until it fails alone.
      this.commitAll(some.slice(0, some.length >> 1));
      this.commitAll(some.slice(some.length >> 1));
    }
  }

  /** How many of those that wait fit into one transaction; at least one. */
  private most(): number {
    let bytes = 0;
    const first = this.waiting.findIndex((each, index) => (bytes += each.bytes) > MOST_BYTES && index > 0);
    return first < 0 ? this.waiting.length : first;
  }

  private commitAlone({ change, resolve, reject }: Waiting): void {
    try {
      resolve(this.root.transactionSync(change));
    } catch (error) {
      reject(error);
    }
  }
}
