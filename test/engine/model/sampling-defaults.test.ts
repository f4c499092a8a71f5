import { expect, test } from "vitest";
import { samplingOf } from "../../../engine/model/sampling-defaults.js";

test("the sampling that a file names is its model's", () => {
  const named = { "general.sampling.temp": 0.7, "general.sampling.top_p": 0.8, "general.sampling.top_k": 20n };
  expect(samplingOf(named)).toEqual({ temperature: 0.7, topP: 0.8, topK: 20 });
  expect(samplingOf({})).toEqual({});
});

test("numbers that cannot be are passed over", () => {
  expect(samplingOf({ "general.sampling.temp": -1, "general.sampling.top_p": 2, "general.sampling.top_k": 0 })).toEqual({});
});
