import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { formatted } from "../../server/playground/formatted.js";
import { startFakeServing } from "../support/server/fake-serving.js";
import type { Serving } from "../support/server/serving.js";

/** The installed command; `npm test` builds it first. */
const BIN = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const CORPUS = fileURLToPath(new URL("../../examples/corpus", import.meta.url));

const CHROMIUM = [process.env["KVSPLICE_CHROMIUM"] ?? "", "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(
  (path) => path !== "" && existsSync(path),
);
/** The machine may be slow; a test that fails takes this long. */
const PATIENCE_MS = 100_000;
const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const SCHEMA = `<schema name="trip"><system>You answer questions from the given documents.</system><user open="true"><module name="tokyo" src="tokyo.md"/></user></schema>`;

let home: string;
let url: string;
const servers: ChildProcess[] = [];

function precompute(store: string, ...files: string[]): void {
  const { status, stderr } = spawnSync(
    process.execPath,
    [BIN, "precompute", ...files.map((file) => join(CORPUS, file)), "--store", join(home, store)],
    { encoding: "utf8" },
  );
  expect(status, stderr).toBe(0);
}

async function serve(store: string, ...options: string[]): Promise<{ readonly url: string; readonly server: ChildProcess }> {
  const server = spawn(process.execPath, [BIN, "serve", "--store", join(home, store), "--port", "0", "--json", ...options], {
    cwd: home,
    stdio: ["ignore", "pipe", "ignore"],
  });
  servers.push(server);
  const [line] = (await once(createInterface(server.stdout!), "line")) as [string];
  return { url: (JSON.parse(line) as { url: string }).url, server };
}

async function stop(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return;
  server.kill("SIGKILL");
  await once(server, "exit");
}

describe.skipIf(CHROMIUM === undefined)("the playground in Chromium (skipped if there is none; KVSPLICE_CHROMIUM can name it)", () => {
  let browser: Browser;

  beforeAll(async () => {
    home = mkdtempSync(join(tmpdir(), "kvsplice-playground-"));
    browser = await chromium.launch({ executablePath: CHROMIUM!, args: FLAGS });
  });

  afterAll(async () => {
    await browser?.close();
    await Promise.all(servers.map(stop));
    if (home) rmSync(home, { recursive: true, force: true });
  });

  /** Opens a page of the server. The test fails if the page logs anything or contacts another host. */
  async function withPage(
    use: (page: Page) => Promise<void>,
    { at = url, expected = /^$/, ...options }: BrowserContextOptions & { at?: string; expected?: RegExp } = {},
  ): Promise<void> {
    const context = await browser.newContext(options);
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE_MS);
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
  const ask = async (page: Page, question: string) => {
    await page.getByLabel("Question").fill(question);
    await page.getByLabel("Question").press("Enter");
  };
  const done = (page: Page) => asked(page).locator(".status", { hasText: "Done." }).waitFor();

  describe("with the bundled model", () => {
    beforeAll(async () => {
      precompute("articles.kv", "forth-bridge.md", "tungsten.md");
      mkdirSync(join(home, "pml"));
      writeFileSync(join(home, "pml", "tokyo.md"), "Title: Tokyo\nThe monorail from Haneda airport goes to Hamamatsucho.\n");
      writeFileSync(join(home, "pml", "trip.pml"), SCHEMA);
      writeFileSync(join(home, "pml", "night.pml"), `<prompt schema="trip"><tokyo/>Question: Where does the monorail go?</prompt>`);
      ({ url } = await serve("articles.kv", "--schemas", join(home, "pml")));
    });

    test("answers a question, with the prompt's pieces and both timelines", () =>
      withPage(async (page) => {
        await expect.poll(() => page.textContent("#totals")).toMatch(/^2 files, \d+ chunks, [\d,]+ tokens$/);
        await page.getByLabel("Question").fill("Who designed the Forth Bridge?");
        await page.getByLabel("Documents").fill("3");
        await page.getByText("More: answers").click();
        await page.getByLabel("Link tokens").selectOption("1");
        expect(await page.getByLabel("Race against full prefill").first().isChecked()).toBe(false);
        await page.getByLabel("Race against full prefill").first().check();
        await page.getByRole("button", { name: "Ask", exact: true }).click();
        await done(page);

        expect(await asked(page).locator(".answer .text").textContent()).toContain("John Fowler and Benjamin Baker");
        expect(await asked(page).getByRole("heading", { name: "Who designed the Forth Bridge?" }).count()).toBe(1);

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
        expect(await asked(page).locator(".piece").textContent()).toMatch(
          /Forth Bridge.*cached, \d+ tokens at \d+–\d+, .*forth-bridge\.md#\d/,
        );
        expect(await asked(page).locator(".piece-text").textContent()).toMatch(/^Title: Forth Bridge\n/);
        expect(await asked(page).locator(".sources li").count()).toBe(3);

        for (const name of ["Spliced", "Full prefill"]) {
          const lane = asked(page)
            .locator(".lane")
            .filter({ has: page.getByRole("heading", { name }) });
          expect(await lane.getByRole("img").getAttribute("aria-label")).toMatch(
            /: first token after [\d,]+ ms, then [\d,]+ ms per token$/,
          );
          expect(await lane.locator(".mark.first").count()).toBe(1);
          expect(await lane.locator(".mark").count()).toBeGreaterThan(1);
          expect(await lane.locator(".said").textContent()).toContain("John Fowler");
        }
        expect(await asked(page).locator(".headline").textContent()).toMatch(
          /times (faster|slower) to the first token: [\d,]+ ms spliced, [\d,]+ ms with full prefill/,
        );
        expect(await asked(page).locator(".note").textContent()).toContain("one after the other");
      }));

    test("is small: loads less than 40 kB in total", () =>
      withPage(async (page) => {
        await page.waitForLoadState("networkidle");
        const sizes = await page.evaluate(() =>
          [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")].map(
            (entry) => (entry as PerformanceResourceTiming).encodedBodySize,
          ),
        );
        expect(sizes.length).toBeGreaterThan(10);
        expect(sizes.reduce((sum, size) => sum + size)).toBeLessThan(40_000);
      }));

    test("works with only the keyboard: ask, cancel with Escape, move through the pieces, change tabs", () =>
      withPage(async (page) => {
        await expect.poll(() => page.evaluate(() => document.activeElement?.id)).toBe("question");
        await page.keyboard.type("Which metal has the highest melting point?");
        for (let tabs = 0; tabs < 4; tabs++) await page.keyboard.press("Tab"); // past Ask, Cancel and Documents
        await page.keyboard.press("Space");
        expect(await page.getByLabel("Race against full prefill").first().isChecked()).toBe(true);
        for (let tabs = 0; tabs < 4; tabs++) await page.keyboard.press("Shift+Tab");
        await page.keyboard.press("Enter");
        await asked(page).locator(".lane.full .quiet", { hasText: /ms/ }).waitFor(); // the full prefill is running
        await page.keyboard.press("Escape");
        await asked(page).locator(".status", { hasText: "Cancelled." }).waitFor();
        expect(await asked(page).locator(".lane.full .figure").textContent()).toContain("stopped");

        await page
          .getByRole("button", { name: /^cached: / })
          .first()
          .focus();
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

    test("reports problems in markup while it is edited, and lays it out", () =>
      withPage(
        async (page) => {
          const total = page.locator("#problem-count");
          await total.filter({ hasText: "No problems." }).waitFor();
          const rows = await page
            .locator("#layout-table tbody tr")
            .evaluateAll((all) => all.map((row) => Array.from(row.children, ({ textContent }) => textContent!)));
          const places = Object.fromEntries(rows.map(([name, , place]) => [name!, place!.split("–").map(Number)]));
          expect(places["tokyo"]![0]).toBe(places["union"]![0]);
          expect(places["miami (left out)"]![0]).toBe(places["union"]![0]);
          expect(places["union"]![1]).toBe(Math.max(places["tokyo"]![1]!, places["miami (left out)"]![1]!));
          expect(await page.locator("#layout-table .prompt .gap").count()).toBe(1);
          const read = page.locator("#rendering-text");
          expect(await read.textContent()).toMatch(
            /We stay for three days\[\d+ free\]\.\n.*Tokyo lies on a bay of the Pacific\..*It rains today\.\nQuestion: Where does the monorail go\?/s,
          );
          expect(await read.locator(".new").first().textContent()).toBe(" three days");
          expect(await read.locator(".cached", { hasText: "Tokyo lies" }).count()).toBe(1);

          const prompt = page.getByRole("textbox", { name: "Prompt" });
          await prompt.fill((await prompt.inputValue()).replace("<tokyo/>", "<toyko/>"));
          await total.filter({ hasText: "1 error, 0 warnings." }).waitFor();
          expect(await page.locator("#problems li").textContent()).toMatch(
            /^errorprompt:3:6no module toyko in plan; did you mean tokyo\?unknown-module$/,
          );
          expect(await page.locator(".editor .error").allTextContents()).toEqual(["toyko"]);
          expect(await prompt.getAttribute("aria-invalid")).toBe("true");

          await page.locator("#problems button").click();
          expect(await prompt.evaluate((area: HTMLTextAreaElement) => area.value.slice(area.selectionStart, area.selectionEnd))).toBe(
            "toyko",
          );
          await page.keyboard.type("miami");
          await total.filter({ hasText: "No problems." }).waitFor();
          expect(await page.locator(".editor .error").count()).toBe(0);
        },
        { at: `${url}/#pml` },
      ));

    test("runs a schema from the server's folder, with only the files in it", () =>
      withPage(
        async (page) => {
          await page.getByRole("combobox", { name: "Schema" }).selectOption("trip.pml");
          const schema = page.getByRole("textbox", { name: "Schema" });
          await expect.poll(() => schema.inputValue()).toBe(SCHEMA);
          await page.locator("#problem-count", { hasText: "No problems." }).waitFor();
          await page.getByRole("button", { name: "Run the prompt" }).click();
          await page.locator("#pml-run .status", { hasText: "Done." }).waitFor();
          expect(await page.locator("#pml-run .answer .text").textContent()).toContain("Hamamatsucho");
          expect(await page.locator("#pml-run .note").textContent()).toContain("Missing blocks with");

          await page
            .getByRole("textbox", { name: "Prompt" })
            .fill(`<prompt schema="trip"><document ref="tungsten.md#99"/>What melts?</prompt>`);
          await page.locator("#problems", { hasText: /tungsten\.md has \d chunks/ }).waitFor();

          for (const outside of ["../articles.kv/corpus.lmdb", "../no-such-file", "/etc/passwd"]) {
            await schema.fill(SCHEMA.replace("tokyo.md", outside));
            await page.locator("#problems", { hasText: `${outside} is outside this server's folder of schemas` }).waitFor();
          }
        },
        { at: `${url}/#pml` },
      ));

    test("runs what was chosen, even before it has been read", () =>
      withPage(
        async (page) => {
          await page.route(/markup\?file=night\.pml$/, async (route) => {
            await page.getByRole("button", { name: "Run the prompt" }).click();
            await route.continue();
          });
          await page.getByRole("combobox", { name: "Schema" }).selectOption("trip.pml");
          await page.locator("#pml-run .status", { hasText: "Done." }).waitFor();
          expect(await page.locator("#pml-run .answer .text").textContent()).toContain("Hamamatsucho");
        },
        { at: `${url}/#pml` },
      ));

    test("shows what the model reads with values filled in, and problems with the values", () =>
      withPage(
        async (page) => {
          const [total, problems, rendering] = [page.locator("#problem-count"), page.locator("#problems"), page.locator("#rendering-text")];
          await total.filter({ hasText: "No problems." }).waitFor();
          await rendering.filter({ hasText: /We stay for three days\[\d+ free\]\./ }).waitFor();
          expect(await rendering.locator(".new", { hasText: "three days" }).count()).toBe(1);
          expect(await rendering.locator(".cached", { hasText: "Tokyo lies on a bay" }).getAttribute("title")).toMatch(
            /^plan\/tokyo, positions \d+ to \d+/,
          );
          expect(await rendering.locator(".gap").allTextContents()).toContainEqual(expect.stringMatching(/^\[\d+ free\]$/));

          await page.getByText("Values for the prompt, as JSON").click();
          const values = page.getByRole("textbox", { name: "Values for the prompt, as JSON" });
          await values.fill(`{"plan": {"days": 4, "tokyo": false, "miami": true}}`);
          await rendering.filter({ hasText: /We stay for 4\[\d+ free\]\.\s+Title: Miami/ }).waitFor();
          await values.fill(`{"plan": {"days": [4]}}`);
          await problems.filter({ hasText: "it takes text or a number" }).waitFor();
          await values.fill(`{"plan"`);
          await problems.filter({ hasText: "the values are not JSON" }).waitFor();
        },
        { at: `${url}/#pml` },
      ));

    test("continues a conversation: a follow-up is understood in context, and earlier questions stay on the page with their answers", () =>
      withPage(async (page) => {
        await ask(page, "Who designed the Forth Bridge?");
        await done(page);
        const bodies: { chat: { messages: object[] } }[] = [];
        page.on(
          "request",
          (request) => void (request.url().endsWith("/ask") && bodies.push(request.postDataJSON() as (typeof bodies)[number])),
        );
        await ask(page, "How many rivets hold it together?");
        await page.locator("#earlier li").waitFor();
        await done(page);
        expect(bodies[0]!.chat.messages).toMatchObject([
          { content: "Who designed the Forth Bridge?" },
          { role: "assistant", content: expect.stringContaining("Fowler") },
          { content: "How many rivets hold it together?" },
        ]);
        expect(await asked(page).locator(".asked").textContent()).toBe("How many rivets hold it together?");
        expect(await asked(page).locator(".answer .text").textContent()).toMatch(/million/);
        expect(
          await asked(page)
            .locator(".strip button")
            .evaluateAll((buttons) => buttons.filter((each) => each.getAttribute("aria-label")!.startsWith("cached: conversation")).length),
        ).toBeGreaterThan(0);
        expect(await asked(page).locator(".sources .title").first().textContent()).toBe("Forth Bridge");
        expect(await page.locator("#earlier li").allTextContents()).toEqual([
          expect.stringMatching(/^Who designed the Forth Bridge\?.*John Fowler/),
        ]);
        await page.getByRole("button", { name: "New conversation" }).click();
        expect(await page.locator("#earlier").isVisible()).toBe(false);
        await ask(page, "What is the symbol of tungsten?");
        await done(page);
        expect(bodies.at(-1)!.chat.messages).toHaveLength(1);
      }));

    test("recomputes the slider's share, shows which tokens, and estimates the time for another share", () =>
      withPage(async (page) => {
        await page.locator("#totals", { hasText: "files" }).waitFor();
        await page.getByText("More: answers").click();
        const share = page.getByRole("slider", { name: "Recomputed" });
        await share.fill("30");
        expect(await page.locator("#link-told").textContent()).toContain("The next answer shows how long that takes.");
        expect(await page.getByLabel("Use the corpus's way of linking (none)").isChecked()).toBe(false);
        await ask(page, "Who designed the Forth Bridge?");
        await done(page);
        const tokens = (await asked(page).locator(".strip button:not(:first-child, :last-child)").allTextContents()).reduce(
          (sum, each) => sum + Number(each),
          0,
        );
        const again = asked(page).locator(".legend li", { hasText: "recomputed" });
        expect(await again.textContent()).toBe(`recomputed ${Math.floor(0.3 * tokens)}`);
        await asked(page).locator(".strip .again").first().hover();
        expect(await asked(page).locator(".piece").textContent()).toMatch(/; \d+ recomputed$/);
        expect(await asked(page).locator(".piece-text mark").count()).toBeGreaterThan(0);
        const told = async (percent: string) => {
          await share.fill(percent);
          return Number(
            /about ([\d,]+) ms to the first token/.exec((await page.locator("#link-told").textContent())!)![1]!.replace(",", ""),
          );
        };
        const [none, some, all] = [await told("0"), await told("30"), await told("100")];
        expect(none < some && some < all).toBe(true);
      }));

    test("adds files to the corpus for the next question, reports what it could not read, and removes them again", () =>
      withPage(async (page) => {
        await page.getByText("Files of the corpus").click();
        await page.locator("#document-list li", { hasText: "tungsten.md" }).waitFor();
        await page.getByLabel("Files to add").setInputFiles([
          {
            name: "kite.md",
            mimeType: "text/markdown",
            buffer: Buffer.from("# The kite museum\n\nThe kite museum of Ollerby was founded in 1931 by the sailmaker Henrik Brandt.\n"),
          },
          { name: "broken.pdf", mimeType: "application/pdf", buffer: Buffer.from("no PDF") },
          { name: "large.txt", mimeType: "text/plain", buffer: Buffer.alloc(5 * 2 ** 20, "a") },
        ]);
        await page.getByRole("button", { name: "Add", exact: true }).click();
        await page.locator("#upload-status", { hasText: "3 files read, with 2 problems:" }).waitFor();
        expect(await page.locator("#upload-problems li").allTextContents()).toEqual([
          expect.stringMatching(/^broken\.pdf: /),
          expect.stringMatching(/^large\.txt: it has 5 MiB, but this server accepts 4 MiB at a time/),
        ]);
        await page.locator("#totals", { hasText: "3 files" }).waitFor();

        await ask(page, "Who founded the kite museum of Ollerby?");
        await done(page);
        expect(await asked(page).locator(".answer .text").textContent()).toContain("Henrik Brandt");
        expect(await asked(page).locator(".sources .title").first().textContent()).toBe("The kite museum");

        page.on("dialog", (dialog) => void dialog.accept());
        await page.getByRole("button", { name: "Remove kite.md" }).click();
        await page.locator("#totals", { hasText: "2 files" }).waitFor();
        await expect.poll(() => page.locator("#document-list li").count()).toBe(2);
      }));

    test("a link contains corpus and question; answer and link can be copied", () =>
      withPage(
        async (page) => {
          await page.context().grantPermissions(["clipboard-read", "clipboard-write"], { origin: url });
          const copied = () => page.evaluate(() => navigator.clipboard.readText());
          await expect.poll(() => page.getByLabel("Question").inputValue()).toBe("Who designed the Forth Bridge & why?");
          expect(await page.getByRole("combobox", { name: "Corpus" }).inputValue()).toBe("articles");
          expect(await asked(page).locator(".result").isVisible()).toBe(false); // it is not asked automatically
          await page.getByLabel("Question").press("Enter");
          await done(page);
          await page.getByRole("button", { name: "Copy answer" }).click();
          await page.getByText("The answer was copied.").waitFor();
          expect(await copied()).toBe(await asked(page).locator(".answer .text").textContent());
          await page.getByRole("button", { name: "Copy link to question" }).click();
          await page.getByText("The link was copied.").waitFor();
          expect(await copied()).toBe(page.url());
          expect(new URLSearchParams(new URL(page.url()).hash.slice("#ask?".length)).get("question")).toBe(
            "Who designed the Forth Bridge & why?",
          );
        },
        { at: `${url}/#ask?corpus=articles&question=Who+designed+the+Forth+Bridge+%26+why%3F` },
      ));
  });

  describe("with a model without weights", () => {
    let fake: Serving;
    beforeAll(async () => {
      fake = await startFakeServing({ limits: { contextTokens: 2048 } });
    });
    afterAll(() => fake?.stop());

    test("asks only the model, with the chosen temperature and length, and says that the answer was cut off", () =>
      withPage(
        async (page) => {
          await page.getByRole("combobox", { name: "Corpus" }).selectOption("none");
          await page.getByText("More: answers").click();
          await page.getByLabel("Temperature").fill("0.7");
          await page.getByLabel("Maximum tokens").fill("5");
          const body = page.waitForRequest(/\/ask$/);
          await ask(page, "Hello?");
          await done(page);
          expect((await body).postDataJSON()).toEqual({
            compare: false,
            chat: { model: "kvsplice-135m", messages: [{ role: "user", content: "Hello?" }], temperature: 0.7, max_tokens: 5 },
          });
          expect(await asked(page).locator(".figures tbody tr").count()).toBe(5);
          expect(await asked(page).locator(".remarks").textContent()).toBe(
            "The answer was cut off at the maximum length. Increase it for a longer answer.",
          );
          expect(await asked(page).locator(".sources").isVisible()).toBe(false);

          await page.getByLabel("Temperature").evaluate((input: HTMLInputElement) => input.removeAttribute("max"));
          await page.getByLabel("Temperature").fill("9");
          await ask(page, "Hello?");
          await page.getByRole("alert").filter({ hasText: "'chat.temperature'" }).waitFor();
        },
        { at: fake.url, expected: /^Failed to load resource/ },
      ));

    test("an answer's Markdown becomes elements: HTML stays text, images are not loaded, and links only use https", () =>
      withPage(
        async (page) => {
          const answer = [
            "## Piers\n\n1. **Dollis**, *small*\n2. `Marten`\n\n| pier | cars |\n|---|---|\n| Dollis | 6 |\n\n",
            "<img src=x onerror=alert(1)><script>alert(1)</script>\n\n![a cat](https://elsewhere.example/cat.png) ",
            "[out](https://elsewhere.example/) [run](javascript:alert(1))\n\n```js\nlet a = '<b>';\n```\n",
          ].join("");
          await page.route("**/playground/api/ask", (route) => {
            const stats = {
              queue_ms: 0,
              fetch_ms: 1,
              splice_ms: 1,
              look_ms: 0,
              first_token_ms: 9,
              per_token_ms: 1,
              computed_tokens: 7,
              recomputed_tokens: 0,
              cut: false,
            };
            const events = [
              {
                type: "plan",
                retrieve_ms: 0,
                pieces: [{ kind: "new", label: "computed now", tokens: 7, places: [[0, 7]], text: "?", more: 1200 }],
                sources: [],
                found: false,
                dropped: 0,
              },
              { type: "start", run: "spliced" },
              { type: "token", run: "spliced", text: answer, at_ms: 9 },
              { type: "formatted", blocks: formatted(answer) },
              { type: "done", run: "spliced", stats },
            ];
            return route.fulfill({
              contentType: "text/event-stream",
              body: events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join(""),
            });
          });
          await ask(page, "Which piers are there?");
          await done(page);
          const text = asked(page).locator(".answer .text");
          expect(
            await text
              .locator("h4, ol > li, strong, em, table td, pre code")
              .evaluateAll((all) => all.map((each) => `${each.localName}: ${each.textContent}`)),
          ).toEqual([
            "h4: Piers",
            "li: Dollis, small",
            "strong: Dollis",
            "em: small",
            "li: Marten",
            "td: Dollis",
            "td: 6",
            "code: let a = '<b>';",
          ]);
          expect(await text.textContent()).toContain("<img src=x onerror=alert(1)><script>alert(1)</script>");
          expect(await text.textContent()).toContain("[picture: a cat]");
          expect(await text.locator("img, script").count()).toBe(0);
          expect(
            await text
              .locator("a")
              .evaluateAll((all) =>
                all.map((each) => [each.textContent, (each as HTMLAnchorElement).href, (each as HTMLAnchorElement).rel]),
              ),
          ).toEqual([["out", "https://elsewhere.example/", "noopener noreferrer"]]);
          expect(await asked(page).locator(".remarks").textContent()).toBe(
            "Nothing in the corpus answers this, so the model answers without documents.",
          );
          await asked(page).locator(".strip button").hover();
          expect(await asked(page).locator(".piece-text").textContent()).toBe("? … and 1,200 more characters");
        },
        { at: fake.url },
      ));

    test("shows how many files there are beyond those listed", () =>
      withPage(
        async (page) => {
          const data = Array.from({ length: 1_234 }, (_, i) => ({ id: `note-${i}.md`, chunks: 1, tokens: 100 }));
          await page.route("**/v1/corpora/articles/documents", (route) => route.fulfill({ json: { object: "list", data } }));
          await page.getByText("Files of the corpus").click();
          await page.getByText("20 of 1,234 files shown.").waitFor();
          expect(await page.locator("#document-list li").count()).toBe(20);
          await page.getByRole("button", { name: "Show all" }).click();
          await expect.poll(() => page.locator("#document-list li").count()).toBe(1_234);
        },
        { at: fake.url },
      ));

    test("a list of files that a later one has overtaken is not shown", () =>
      withPage(
        async (page) => {
          let release = () => {};
          const released = new Promise<void>((resolve) => (release = resolve));
          let requests = 0;
          const names = [["removed.md", "kept.md"], ["kept.md"]];
          await page.route("**/v1/corpora/articles/documents", async (route) => {
            const request = requests++;
            if (request === 0) await released;
            const data = names[request]!.map((id) => ({ id, chunks: 1, tokens: 100 }));
            await route.fulfill({ json: { object: "list", data } });
          });
          const panel = page.getByText("Files of the corpus");
          await panel.click();
          await panel.click();
          await panel.click();
          const files = page.locator("#document-list li span:first-child");
          await expect.poll(() => files.allTextContents()).toEqual(["kept.md"]);
          const overtaken = page.waitForResponse("**/v1/corpora/articles/documents");
          release();
          await (await overtaken).finished();
          expect(await files.allTextContents()).toEqual(["kept.md"]);
        },
        { at: fake.url },
      ));

    describe.each(["light", "dark"] as const)("in %s", (colorScheme) => {
      test.each([1280, 390, 320])(
        "at %d pixels every control has a name, text has enough contrast, and nothing is cut off at the side",
        (width) =>
          withPage(
            async (page) => {
              await page.locator("#totals", { hasText: "files" }).waitFor();
              await page.getByText("More: answers").click();
              await page.getByText("Files of the corpus").click();
              await page.getByLabel("Race against full prefill").first().check();
              await page.getByLabel("Maximum tokens").fill("12");
              await page.getByRole("slider").fill("30");
              await ask(page, "Who was the first keeper of the lighthouse?");
              await done(page);
              await ask(page, "And for how long?");
              await page.locator("#earlier li").waitFor();
              await done(page);
              for (const tab of ["Ask", "PML"]) {
                await page.getByRole("tab", { name: tab }).click();
                if (tab === "PML") {
                  await page.locator("#layout-table table").waitFor();
                  const box = await page.locator("#rendering-text").boundingBox();
                  expect(box && box.x >= 0 && box.x + box.width <= width && box.height > 100).toBe(true);
                  expect(await page.locator("#rendering-text").textContent()).toContain("Where does the monorail go?");
                }
                expect(await page.evaluate(faults)).toEqual([]);
                expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(width);
              }
            },
            {
              at: fake.url,
              colorScheme,
              viewport: { width, height: 740 },
              hasTouch: width < 1000,
              isMobile: width < 1000,
              reducedMotion: "reduce",
            },
          ),
      );
    });
  });

  test("reports that a key is needed, that the corpus is empty, and that the server is gone", async () => {
    const folder = mkdtempSync(join(home, "empty-"));
    const { url: at, stop } = await startFakeServing({ folder, apiKeys: ["open sesame"] });
    await withPage(
      async (page) => {
        const alert = page.getByRole("alert");
        await alert.filter({ hasText: "This server needs an API key." }).waitFor();
        await page.getByLabel("API key for this server").fill("guess");
        await page.keyboard.press("Enter");
        await alert.filter({ hasText: "The server does not know this API key." }).waitFor();
        await page.getByLabel("API key for this server").fill("open sesame");
        await page.keyboard.press("Enter");
        await page.locator("#totals", { hasText: "It is empty" }).waitFor();

        await page.getByLabel("Question").fill("Is there anything?");
        await page.keyboard.press("Enter");
        await alert.filter({ hasText: "precompute some first" }).waitFor();

        await stop();
        await page.keyboard.press("Enter");
        await alert.filter({ hasText: "If kvsplice serve is not running" }).waitFor();
      },
      // Chromium logs each refused request.
      { at, expected: /^Failed to load resource/ },
    );
  });
});

/** Runs in the page: finds controls without a name, duplicate ids, and text with too little contrast (WCAG 2.2, 1.4.3). */
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
    if (!texts.currentNode.textContent!.trim() || !visible(element) || element.closest("[aria-disabled=true], select, .unseen, .line"))
      continue;
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
