import { describe, expect, test } from "vitest";
import { type Link, linkText, parseLink } from "../../../engine/link/index.js";

describe("a link's name", () => {
  test.each<[string, Link]>([
    ["none", { kind: "none" }],
    ["0.15", { kind: "question", share: 0.15 }],
    ["15%", { kind: "question", share: 0.15 }],
    ["1", { kind: "question", share: 1 }],
    ["0.3+last", { kind: "question", share: 0.3, last: true }],
    ["head=8", { kind: "head", tokens: 8 }],
  ])("%s is read, and written so that it can be read again", (text, link) => {
    expect(parseLink(text)).toEqual(link);
    expect(parseLink(linkText(link))).toEqual(link);
  });

  test.each(["", "2", "-0.1", "head", "head=x", "last", "0.1+first", "NaN"])("%j is refused, with the valid values", (text) => {
    expect(() => parseLink(text)).toThrow(expect.objectContaining({ code: "bad_argument", message: expect.stringContaining("0.15") }));
  });
});
