import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { chromium, type Browser, type BrowserContextOptions, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

/** The command as it is installed; `npm test` builds it first. */
const BIN = new URL("../../dist/cli/main.js", import.meta.url).pathname;
const CORPUS = new URL("../../examples/corpus", import.meta.url).pathname;

const CHROMIUM = [process.env["KVSPLICE_CHROMIUM"] ?? "", "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find((path) => path !== "" && existsSync(path));
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

const SCHEMA = `<schema name="trip"><system>You answer questions from the given documents.</system><user open="true"><module name="tokyo" src="tokyo.md"/></user></schema>`;

let home: string;
let url: string;
const servers: ChildProcess[] = [];

function precompute(store: string, ...files: string[]): void {
  const { status, stderr } = spawnSync(process.execPath, [BIN, "precompute", ...files.map((file) => join(CORPUS, file)), "--store", join(home, store)], { encoding: "utf8" });
  expect(status, stderr).toBe(0);
}

async function serve(store: string, ...options: string[]): Promise<{ readonly url: string; readonly server: ChildProcess }> {
  const server = spawn(process.execPath, [BIN, "serve", "--store", join(home, store), "--port", "0", "--json", ...options], { cwd: home, stdio: ["ignore", "pipe", "ignore"] });
  servers.push(server);
  const [line] = (await once(createInterface(server.stdout!), "line")) as [string];
  return { url: (JSON.parse(line) as { url: string }).url, server };
}

async function stop(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return;
  server.kill("SIGKILL");
  await once(server, "exit");
}

describe.skipIf(CHROMIUM === undefined)("the playground in Chromium (skipped where there is none; KVSPLICE_CHROMIUM may name it)", () => {
  let browser: Browser;

  beforeAll(async () => {
    home = mkdtempSync(join(tmpdir(), "kvsplice-playground-"));
    precompute("articles.kv", "forth-bridge.md", "tungsten.md");
    mkdirSync(join(home, "pml"));
    writeFileSync(join(home, "pml", "tokyo.md"), "Title: Tokyo\nThe monorail from Haneda airport goes to Hamamatsucho.\n");
    writeFileSync(join(home, "pml", "trip.pml"), SCHEMA);
    writeFileSync(join(home, "pml", "night.pml"), `<prompt schema="trip"><tokyo/>Question: Where does the monorail go?</prompt>`);
    browser = await chromium.launch({ executablePath: CHROMIUM!, args: FLAGS });
    ({ url } = await serve("articles.kv", "--schemas", join(home, "pml")));
  });

  afterAll(async () => {
    await browser?.close();
    await Promise.all(servers.map(stop));
    if (home) rmSync(home, { recursive: true, force: true });
  });

  /** A page of the server, which fails the test where it complains or asks another host for something. */
  async function withPage(use: (page: Page) => Promise<void>, { at = url, expected = /^$/, ...options }: BrowserContextOptions & { at?: string; expected?: RegExp } = {}): Promise<void> {
    const context = await browser.newContext(options);
    const page = await context.newPage();
    const complaints: string[] = [];
    const elsewhere: string[] = [];
    page.on("console", (message) => void complaints.push(message.text()));
    page.on("pageerror", (error) => void complaints.push(error.message));
    page.on("request", (request) => void (new URL(request.url()).host !== new URL(at).host && elsewhere.push(request.url())));
    try {
      await page.goto(at);
      await use(page);
    } finally {
      await context.close();
    }
    expect(complaints.filter((complaint) => !expected.test(complaint))).toEqual([]);
    expect(elsewhere).toEqual([]);
  }

  const asked = (page: Page) => page.locator("#ask-run");
  const done = (page: Page) => asked(page).locator(".status", { hasText: "Done." }).waitFor();

  test("answers a question, with the prompt's pieces and both timelines", () =>
    withPage(async (page) => {
      await expect.poll(() => page.textContent("#totals")).toMatch(/^2 files, \d+ chunks, [\d,]+ tokens$/);
      await page.getByLabel("Question").fill("Who designed the Forth Bridge?");
      await page.getByLabel("Documents").fill("3");
      await page.getByLabel("Link tokens").selectOption("1");
      await page.getByRole("button", { name: "Ask", exact: true }).click();
      await done(page);

      expect(await asked(page).locator(".answer .text").textContent()).toContain("John Fowler and Benjamin Baker");

      // instructions, then (document, its link token) three times, then the question
      const pieces = asked(page).locator(".strip button");
      const kinds = await pieces.evaluateAll((buttons) => buttons.map((button) => button.className));
      expect(kinds.slice(1)).toEqual(["cached", "link", "cached", "link", "cached", "link", "new"]);
      const labels = await pieces.evaluateAll((buttons) => buttons.map((button) => button.getAttribute("aria-label")!));
      expect(labels[5]).toMatch(/^cached: Forth Bridge, \d+ tokens$/);
      const tokens = (await pieces.allTextContents()).map(Number);
      expect(await asked(page).locator(".sum").textContent()).toContain(`${tokens.reduce((sum, each) => sum + each)} tokens`);
      expect(await asked(page).locator(".legend").textContent()).toContain("link 3");

      await pieces.nth(5).hover();
      expect(await asked(page).locator(".piece").textContent()).toMatch(/Forth Bridge.*cached, \d+ tokens at \d+–\d+, .*forth-bridge\.md#\d/);
      expect(await asked(page).locator(".piece-text").textContent()).toMatch(/^Title: Forth Bridge\n/);
      expect(await asked(page).locator(".sources li").count()).toBe(3);

      for (const name of ["Spliced", "Full prefill"]) {
        const lane = asked(page).locator(".lane").filter({ has: page.getByRole("heading", { name }) });
        expect(await lane.getByRole("img").getAttribute("aria-label")).toMatch(/: first token after [\d,]+ ms, then [\d,]+ ms a token$/);
        expect(await lane.locator(".mark.first").count()).toBe(1);
        expect(await lane.locator(".mark").count()).toBeGreaterThan(1);
        expect(await lane.locator(".said").textContent()).toContain("John Fowler");
      }
      expect(await asked(page).locator(".headline").textContent()).toMatch(/times (sooner|later) to the first token: [\d,]+ ms spliced, [\d,]+ ms by full prefill/);
      expect(await asked(page).locator(".note").textContent()).toContain("one after the other");
    }));

  test("is small: under 30 kB for all that it loads", () =>
    withPage(async (page) => {
      await page.waitForLoadState("networkidle");
      const sizes = await page.evaluate(() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")].map((entry) => (entry as PerformanceResourceTiming).encodedBodySize));
      expect(sizes.length).toBeGreaterThan(10);
      expect(sizes.reduce((sum, size) => sum + size)).toBeLessThan(30_000);
    }));

  test("is used by the keyboard alone: ask, cancel with Escape, go through the pieces, change the tab", () =>
    withPage(async (page) => {
      await expect.poll(() => page.evaluate(() => document.activeElement?.id)).toBe("question");
      await page.keyboard.type("Which metal has the highest melting point?");
      await page.keyboard.press("Enter");
      await asked(page).locator(".lane.full .quiet", { hasText: /ms/ }).waitFor(); // the full prefill runs
      await page.keyboard.press("Escape");
      await asked(page).locator(".status", { hasText: "Cancelled." }).waitFor();
      expect(await asked(page).locator(".lane.full .figure").textContent()).toContain("stopped");

      await page.getByRole("button", { name: /^cached: / }).first().focus();
      await page.keyboard.press("End");
      expect(await page.evaluate(() => document.activeElement?.getAttribute("aria-label"))).toMatch(/^new: computed now, \d+ tokens$/);
      expect(await asked(page).locator(".piece-text").textContent()).toContain("Which metal");
      const outline = await page.evaluate(() => getComputedStyle(document.activeElement!).outlineStyle);
      expect(outline).toBe("solid");

      await page.locator("#tab-ask").focus();
      await page.keyboard.press("ArrowRight");
      await page.getByRole("tabpanel", { name: "PML" }).waitFor();
      expect(new URL(page.url()).hash).toBe("#pml");
    }));

  test("tells what is wrong with markup while it is written, and lays it out", () =>
    withPage(
      async (page) => {
        const total = page.locator("#problem-count");
        await total.filter({ hasText: "No problems." }).waitFor();
        const rows = await page.locator("#layout-table tbody tr").evaluateAll((all) => all.map((row) => Array.from(row.children, ({ textContent }) => textContent!)));
        const places = Object.fromEntries(rows.map(([name, , place]) => [name!, place!.split("–").map(Number)]));
        expect(places["tokyo"]![0]).toBe(places["union"]![0]);
        expect(places["miami (left out)"]![0]).toBe(places["union"]![0]);
        expect(places["union"]![1]).toBe(Math.max(places["tokyo"]![1]!, places["miami (left out)"]![1]!));
        expect(await page.locator("#layout-table .prompt .gap").count()).toBe(1);
        const read = page.locator("#rendering-text");
        expect(await read.textContent()).toMatch(/We stay for three days\[\d+ free\]\.\n.*Tokyo lies on a bay of the Pacific\..*It rains today\.\nQuestion: Where does the monorail go\?/s);
        expect(await read.locator(".new").first().textContent()).toBe(" three days");
        expect(await read.locator(".cached", { hasText: "Tokyo lies" }).count()).toBe(1);

        const prompt = page.getByRole("textbox", { name: "Prompt" });
        await prompt.fill((await prompt.inputValue()).replace("<tokyo/>", "<toyko/>"));
        await total.filter({ hasText: "1 error, 0 warnings." }).waitFor();
        expect(await page.locator("#problems li").textContent()).toMatch(/^errorprompt:3:6no module toyko in plan; did you mean tokyo\?unknown-module$/);
        expect(await page.locator(".editor .error").allTextContents()).toEqual(["toyko"]);
        expect(await prompt.getAttribute("aria-invalid")).toBe("true");

        await page.locator("#problems button").click();
        expect(await prompt.evaluate((area: HTMLTextAreaElement) => area.value.slice(area.selectionStart, area.selectionEnd))).toBe("toyko");
        await page.keyboard.type("miami");
        await total.filter({ hasText: "No problems." }).waitFor();
        expect(await page.locator(".editor .error").count()).toBe(0);
      },
      { at: `${url}/#pml` },
    ));

  test("runs a schema of the server's folder, whose files it may name, and no others", () =>
    withPage(
      async (page) => {
        await page.getByRole("combobox", { name: "Schema" }).selectOption("trip.pml");
        const schema = page.getByRole("textbox", { name: "Schema" });
        await expect.poll(() => schema.inputValue()).toBe(SCHEMA);
        await page.locator("#problem-count", { hasText: "No problems." }).waitFor();
        await page.getByRole("button", { name: "Run the prompt" }).click();
        await page.locator("#pml-run .status", { hasText: "Done." }).waitFor();
        expect(await page.locator("#pml-run .answer .text").textContent()).toContain("Hamamatsucho");
        expect(await page.locator("#pml-run .note").textContent()).toContain("The store lacked blocks of");

        await page.getByRole("textbox", { name: "Prompt" }).fill(`<prompt schema="trip"><document ref="tungsten.md#99"/>What melts?</prompt>`);
        await page.locator("#problems", { hasText: /tungsten\.md has \d chunks/ }).waitFor();

        for (const outside of ["../articles.kv/corpus.lmdb", "../no-such-file", "/etc/passwd"]) {
          await schema.fill(SCHEMA.replace("tokyo.md", outside));
          await page.locator("#problems", { hasText: `${outside} lies outside of this server's folder of schemas` }).waitFor();
        }
      },
      { at: `${url}/#pml` },
    ));

  test.each(["light", "dark"] as const)("has a label on every control, and text that stands out, in %s", (colorScheme) =>
    withPage(
      async (page) => {
        await page.getByLabel("Question").fill("How many rivets were used in the Forth Bridge?");
        await page.getByLabel("Race against full prefill").first().uncheck();
        await page.keyboard.press("Shift+Tab");
        await page.getByRole("button", { name: "Ask", exact: true }).click();
        await done(page);
        for (const tab of ["Ask", "PML"]) {
          await page.getByRole("tab", { name: tab }).click();
          if (tab === "PML") await page.locator("#problem-count", { hasText: "No problems." }).waitFor();
          expect(await page.evaluate(faults)).toEqual([]);
        }
      },
      { colorScheme },
    ));

  test("fits a phone: nothing is cut off at the side", () =>
    withPage(
      async (page) => {
        await page.getByLabel("Question").fill("Who designed the Forth Bridge?");
        await page.getByRole("button", { name: "Ask", exact: true }).click();
        await done(page);
        for (const tab of ["Ask", "PML"]) {
          await page.getByRole("tab", { name: tab }).click();
          if (tab === "PML") await page.locator("#layout-table table").waitFor();
          expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(360);
        }
      },
      { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true, reducedMotion: "reduce" },
    ));

  test("says in words that a key is wanted, that the corpus is empty, and that the server is gone", async () => {
    const { url: at, server } = await serve("empty.kv", "--api-key", "open sesame");
    await withPage(
      async (page) => {
        const alert = page.getByRole("alert");
        await alert.filter({ hasText: "This server wants an API key." }).waitFor();
        await page.getByLabel("API key of this server").fill("guess");
        await page.keyboard.press("Enter");
        await alert.filter({ hasText: "The server does not know this API key." }).waitFor();
        await page.getByLabel("API key of this server").fill("open sesame");
        await page.keyboard.press("Enter");
        await page.locator("#totals", { hasText: "It is empty" }).waitFor();

        await page.getByLabel("Question").fill("Is there anything?");
        await page.keyboard.press("Enter");
        await alert.filter({ hasText: "precompute some first" }).waitFor();

        await stop(server);
        await page.keyboard.press("Enter");
        await alert.filter({ hasText: "Is kvsplice serve still running?" }).waitFor();
      },
      // Chromium itself notes each refused request.
      { at, expected: /^Failed to load resource/ },
    );
  });
});

/** In the page: controls without a name, ids that are there twice, and text of too little contrast (WCAG 2.2, 1.4.3). */
function faults(): string[] {
  const found: string[] = [];
  const visible = (element: Element) => element.checkVisibility() && element.getBoundingClientRect().width > 1;
  for (const control of document.querySelectorAll<HTMLInputElement>("button, input, select, textarea")) {
    const name = control.getAttribute("aria-label") ?? (control.labels?.length ? control.labels[0]!.textContent : control.textContent);
    if (visible(control) && !name?.trim()) found.push(`no name: ${control.outerHTML.slice(0, 80)}`);
  }
  const ids = Array.from(document.querySelectorAll("[id]"), ({ id }) => id);
  for (const id of new Set(ids)) if (ids.filter((each) => each === id).length > 1) found.push(`twice: #${id}`);

  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true })!;
  const layer = (color: string) => {
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
  };
  const luminance = () => {
    const [r = 0, g = 0, b = 0] = Array.from(canvas.getImageData(0, 0, 1, 1).data.slice(0, 3), (value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement!;
    if (!texts.currentNode.textContent!.trim() || !visible(element) || element.closest("[aria-disabled=true], select, .unseen, .line")) continue;
    const above: Element[] = [];
    for (let each: Element | null = element; each; each = each.parentElement) above.unshift(each);
    for (const each of above) layer(getComputedStyle(each).backgroundColor);
    const back = luminance();
    layer(getComputedStyle(element).color);
    const front = luminance();
    const contrast = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
    if (contrast < 4.5) found.push(`contrast ${contrast.toFixed(2)}: ${texts.currentNode.textContent!.trim().slice(0, 40)}`);
  }
  return found;
}
