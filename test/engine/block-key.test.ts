import fc from "fast-check";
import { expect, test } from "vitest";
import { type BlockIdentity, blockKey } from "../../engine/kv/identity.js";
import type { BlockSource } from "../../plan/index.js";

const identity: BlockIdentity = { weights: "w", variant: "v", arithmetic: "a", precision: "int8", adapter: "one", encodingAdapter: "two" };
const tokens = fc.array(fc.nat(3), { maxLength: 4 });
const source = fc.record({ tokens, after: tokens, offsets: tokens, adapted: fc.constant(true as const) }, { requiredKeys: ["tokens"] });
/** What a key must tell apart: seeing nothing is the same, however it is written. */
const told = ({ tokens, after = [], offsets, adapted }: BlockSource) => JSON.stringify([tokens, after, offsets ?? null, adapted ?? false]);

test("two blocks have one key if and only if their tokens, offsets, what they saw before them and their adapter are the same", () => {
  fc.assert(
    fc.property(source, source, (one, other) => {
      expect(blockKey(identity, one) === blockKey(identity, other)).toBe(told(one) === told(other));
    }),
    { numRuns: 2_000 },
  );
  const [alone, behind] = [{ tokens: [1, 2, 3] }, { tokens: [2, 3], after: [1] }];
  expect(blockKey(identity, behind)).not.toBe(blockKey(identity, alone));
});

test.for(Object.keys(identity) as (keyof BlockIdentity)[])("a key depends on the model's %s", (field) => {
  const keys = (of: BlockIdentity) => [blockKey(of, { tokens: [1] }), blockKey(of, { tokens: [1], adapted: true })];
  expect(keys({ ...identity, [field]: "other" })).not.toEqual(keys(identity));
});
