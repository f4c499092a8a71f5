/**
 * Processes items in order, at most `atOnce` at a time. After a failure no further item is started, and the promise rejects once the
 * started ones have ended, so that none still uses what the caller then closes.
 *
 * @param weightOf as how many an item counts; one that counts as more than `atOnce` is processed alone
 */
export async function sideBySide<T>(
  items: Iterable<T>,
  atOnce: number,
  work: (item: T) => Promise<void>,
  weightOf: (item: T) => number = () => 1,
): Promise<void> {
  const failures: unknown[] = [];
  let [running, used] = [0, 0];
  let wake = () => {};
  const start = async (item: T, weight: number) => {
    running++;
    used += weight;
    await work(item).catch((error: unknown) => failures.push(error));
    running--;
    used -= weight;
    wake();
  };
  const roomFor = async (weight: number) => {
    while (running > 0 && used + weight > atOnce && failures.length === 0) await new Promise<void>((resolve) => (wake = resolve));
  };
  try {
    for (const item of items) {
      const weight = weightOf(item);
      await roomFor(weight);
      if (failures.length > 0) break;
      void start(item, weight);
    }
  } catch (error) {
    failures.push(error); // the items themselves could not be read
  }
  while (running > 0) await new Promise<void>((resolve) => (wake = resolve));
  if (failures.length > 0) throw failures[0];
}
