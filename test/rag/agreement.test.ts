import fc from "fast-check";
import { expect, test } from "vitest";
import { agreementOf } from "../../rag/eval/agreement.js";

const logits = fc
  .array(fc.float({ min: -20, max: 20, noNaN: true }), { minLength: 5, maxLength: 5 })
  .map((values) => Float32Array.from(values));

test("a distribution agrees with itself, and with one whose logits differ by a constant", () => {
  fc.assert(
    fc.property(logits, fc.integer({ min: -3, max: 3 }), (own, by) => {
      const { kl, same } = agreementOf(
        own,
        own.map((value) => value + by),
      );
      expect(kl).toBeLessThan(1e-4);
      expect(agreementOf(own, own)).toEqual({ kl: expect.closeTo(0, 6), same: true });
      return same || by !== 0; // addition rounds, so near ties may flip
    }),
  );
});

test("KL has the known value for two known distributions, and is never below 0", () => {
  const [p, q] = [Float32Array.of(Math.log(0.75), Math.log(0.25)), Float32Array.of(Math.log(0.5), Math.log(0.5))];
  expect(agreementOf(p, q).kl).toBeCloseTo(0.75 * Math.log(1.5) + 0.25 * Math.log(0.5), 5);
  fc.assert(fc.property(logits, logits, (a, b) => agreementOf(a, b).kl >= 0));
});
