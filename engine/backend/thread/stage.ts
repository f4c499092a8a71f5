import { type Block, blockBytes, copyBlock } from "../../kv/block.js";

/** Memory for the blocks that are shown at the same time: one is read while the next is copied. A larger block is shown alone. */
const STAGE_BYTES = 4 * 2 ** 20;

/** Where a block is for the thread to read. */
class Place {
  private shown: { readonly block: Block; readonly copy: Block } | undefined;
  private readings = 0;

  constructor(readonly memory: SharedArrayBuffer) {}

  get isFree(): boolean {
    return this.readings === 0;
  }

  shows(block: Block): boolean {
    return this.shown?.block === block;
  }

  show(block: Block): void {
    this.shown = { block, copy: copyBlock(block, this.memory) };
  }

  async read<T>(read: (copy: Block) => Promise<T>): Promise<T> {
    this.readings++;
    try {
      return await read(this.shown!.copy);
    } finally {
      this.readings--;
      if (this.isFree) this.shown = undefined;
    }
  }
}

/**
 * Shared memory in which a thread is shown blocks; one is copied while it reads the one before. In a message, a block would be
 * copied twice, into fresh memory, which takes the system as long to provide as the copy itself.
 */
export class Stage {
  private places: Place[] = [];
  private turn: Promise<unknown> = Promise.resolve();
  private onFree = () => undefined as void;

  /** @param most bytes of the blocks that are shown at the same time */
  constructor(private readonly most = STAGE_BYTES) {}

  /** Lets `read` read a copy of a block until `read` ends. For several blocks at once the reads begin in order. */
  show<T>(block: Block, read: (copy: Block) => Promise<T>): Promise<T> {
    const begun = this.turn.then(async () => {
      const place = await this.placeOf(block);
      return { reading: place.read(read).finally(() => this.freed(place)) };
    });
    this.turn = begun;
    return begun.then(({ reading }) => reading);
  }

  /** A place that shows the block: the parts of a block that is spliced in parts are read from one copy. */
  private async placeOf(block: Block): Promise<Place> {
    const shown = this.places.find((place) => place.shows(block));
    if (shown) return shown;
    const bytes = blockBytes(block);
    for (;;) {
      const place = this.places.find(({ isFree, memory }) => isFree && memory.byteLength >= bytes) ?? this.added(bytes);
      if (place) {
        place.show(block);
        return place;
      }
      await new Promise<void>((resolve) => (this.onFree = resolve));
    }
  }

  /** A new place, if there is room besides those being read; the others are freed for it. */
  private added(bytes: number): Place | undefined {
    const room = (places: readonly Place[]) => this.most - places.reduce((sum, { memory }) => sum + memory.byteLength, 0);
    if (room(this.places) < bytes) this.places = this.places.filter(({ isFree }) => !isFree);
    if (this.places.length > 0 && room(this.places) < bytes) return undefined;
    const place = new Place(new SharedArrayBuffer(bytes));
    this.places.push(place);
    return place;
  }

  private freed(place: Place): void {
    if (place.isFree && place.memory.byteLength > this.most) this.places = this.places.filter((each) => each !== place);
    this.onFree();
  }
}
