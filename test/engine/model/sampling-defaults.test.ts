import { expect, test } from "vitest";
import { samplingOf } from "../../../engine/model/sampling-defaults.js";

test("a model has the sampling that its file sets", () => {
  const named = {
    "general.sampling.temp": 0.7,
    "general.sampling.top_p": 0.8,
    "general.sampling.top_k": 20n,
    "general.sampling.min_p": 0.05,
  };
  expect(samplingOf(named)).toEqual({ temperature: 0.7, topP: 0.8, topK: 20, minP: 0.05 });
  expect(samplingOf({})).toEqual({});
});

test("invalid numbers are ignored", () => {
  expect(
    samplingOf({ "general.sampling.temp": -1, "general.sampling.top_p": 2, "general.sampling.top_k": 0, "general.sampling.min_p": 1.5 }),
  ).toEqual({});
});
