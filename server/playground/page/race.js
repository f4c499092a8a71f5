/** @import { RunName, RunStats } from "../events.js" */
import { count, counted, element, find, ms } from "./dom.js";

/**
 * The progress of one run. Times are in ms from its start.
 *
 * @typedef {object} Lane
 * @property {RunName} name
 * @property {"waiting" | "running" | "done" | "stopped"} state
 * @property {number} began by the page's clock
 * @property {{ text: string, at: number }[]} tokens
 * @property {RunStats} [stats]
 */

/** @type {Readonly<Record<RunName, string>>} */
const NAMES = { spliced: "Spliced", full: "Full prefill" };

/** The axis ends at one of these times a power of ten. */
const ENDS = [1, 1.5, 2, 3, 4, 5, 6, 8, 10];

const STILL = matchMedia("(prefers-reduced-motion: reduce)");

/** The timelines of a spliced run and of full prefill, on one axis. */
export class Race {
  /** @type {Map<RunName, Lane & { row: ReturnType<typeof makeRow> }>} */
  #lanes = new Map();
  #axis = element("div", { className: "axis", "aria-hidden": "true" });
  #frame = 0;

  /** @param {HTMLElement} root the run's `.race` */
  constructor(root) {
    this.root = root;
    this.headline = find(".headline", HTMLElement, root);
    this.note = find(".note", HTMLElement, root);
    this.replayButton = find(".replay", HTMLButtonElement, root);
    this.details = find("details", HTMLDetailsElement, root);
    this.replayButton.addEventListener("click", () => this.#replay());
  }

  /**
   * @param {readonly RunName[]} names
   * @param {number} retrieve_ms
   */
  begin(names, retrieve_ms) {
    cancelAnimationFrame(this.#frame);
    this.#lanes = new Map(names.map((name) => [name, { name, state: "waiting", began: 0, tokens: [], row: makeRow(name) }]));
    find(".chart", HTMLElement, this.root).replaceChildren(this.#axis, ...[...this.#lanes.values()].map(({ row }) => row.element));
    this.headline.replaceChildren();
    const both = names.length > 1;
    this.note.textContent = `${both ? "They run one after the other, so that they do not compete for the cores. " : ""}Times are measured by the server.`;
    if (retrieve_ms > 0) this.note.append(` Retrieval came first and took ${ms(retrieve_ms)}${both ? ", the same for both" : ""}.`);
    this.replayButton.hidden = true;
    this.details.hidden = true;
    this.#draw();
  }

  /**
   * @param {number} tokens
   * @param {number} time_ms
   */
  encoded(tokens, time_ms) {
    this.note.append(` Missing blocks with ${counted(tokens, "token")} were encoded first, in ${ms(time_ms)}, and are now stored.`);
  }

  /** @param {RunName} name */
  start(name) {
    Object.assign(this.#lane(name), { state: "running", began: performance.now() });
    this.#tick();
  }

  /**
   * @param {RunName} name
   * @param {string} text
   * @param {number} at
   */
  token(name, text, at) {
    const lane = this.#lane(name);
    lane.tokens.push({ text, at });
    lane.row.said.textContent += text;
    this.#draw();
  }

  /**
   * @param {RunName} name
   * @param {RunStats} stats
   */
  done(name, stats) {
    Object.assign(this.#lane(name), { state: "done", stats });
    this.#draw();
  }

  /** Call this after the last event, when the runs are done or were stopped. */
  end() {
    cancelAnimationFrame(this.#frame);
    const lanes = [...this.#lanes.values()];
    for (const lane of lanes) if (lane.state !== "done") lane.state = "stopped";
    this.#draw();
    const [spliced, full] = lanes.map(({ stats }) => stats?.first_token_ms);
    if (spliced === undefined) return;
    this.headline.replaceChildren(...headline(spliced, full));
    this.replayButton.hidden = full === undefined || STILL.matches;
    find(".figures", HTMLElement, this.details).replaceChildren(figures(lanes));
    this.details.hidden = false;
  }

  /** @param {RunName} name */
  #lane(name) {
    const lane = this.#lanes.get(name);
    if (!lane) throw new Error(`Unknown run ${name}.`);
    return lane;
  }

  /** Draws while any run is in progress. */
  #tick() {
    cancelAnimationFrame(this.#frame);
    this.#draw();
    const running = [...this.#lanes.values()].some(({ state }) => state === "running");
    if (running && !STILL.matches) this.#frame = requestAnimationFrame(() => this.#tick());
  }

  #draw() {
    const now = performance.now();
    const lanes = [...this.#lanes.values()];
    const longest = Math.max(0, ...lanes.map((lane) => reached(lane, now)));
    const power = 10 ** Math.floor(Math.log10(Math.max(longest, 100)));
    const end = power * (ENDS.find((each) => each * power >= longest * 1.02) ?? 10);
    this.#axis.replaceChildren(...ticks(end));
    for (const lane of lanes) drawLane(lane, lane.row, end, now);
  }

  /** Replays both runs at their original speed. */
  #replay() {
    const lanes = [...this.#lanes.values()];
    const last = Math.max(...lanes.map((lane) => reached(lane, 0)));
    const began = performance.now();
    const step = () => {
      const elapsed = performance.now() - began;
      for (const { row, tokens } of lanes) {
        row.track.style.setProperty("--shown", String(Math.min(1, elapsed / row.end)));
        row.said.textContent = tokens.flatMap(({ text, at }) => (at <= elapsed ? [text] : [])).join("");
      }
      if (elapsed < last) this.#frame = requestAnimationFrame(step);
      else for (const { row } of lanes) row.track.style.removeProperty("--shown");
    };
    cancelAnimationFrame(this.#frame);
    step();
  }
}

/** @param {RunName} name */
function makeRow(name) {
  const track = element("div", { className: "track", role: "img" });
  const figure = element("p", { className: "figure" });
  const said = element("p", { className: "said" });
  const row = element("div", { className: `lane ${name}` }, element("h3", {}, NAMES[name]), track, figure, said);
  return { element: row, track, figure, said, end: 0 };
}

/**
 * Where a lane's line ends.
 *
 * @param {Lane} lane
 * @param {number} now
 */
function reached({ state, began, tokens, stats }, now) {
  return state === "running" ? now - began : Math.max(stats?.first_token_ms ?? 0, tokens.at(-1)?.at ?? 0);
}

/**
 * @param {Lane} lane
 * @param {ReturnType<typeof makeRow>} row
 * @param {number} end
 * @param {number} now
 */
function drawLane(lane, row, end, now) {
  const { name, state, tokens, stats } = lane;
  const first = tokens[0]?.at;
  const until = reached(lane, now);
  const parts = segments(lane, first ?? until);
  /** @param {number} value */
  const percent = (value) => `${(100 * value) / end}%`;

  const bars = parts.map(({ kind, from, to, title }) => {
    const bar = element("span", { className: `bar ${kind}`, title });
    Object.assign(bar.style, { left: percent(from), width: percent(Math.max(0, to - from)) });
    return bar;
  });
  const line = element("span", { className: "line" });
  if (first !== undefined) Object.assign(line.style, { left: percent(first), width: percent(until - first) });
  const marks = tokens.map(({ text, at }, i) => {
    const mark = element("span", {
      className: i === 0 ? "mark first" : "mark",
      title: `${i === 0 ? "first token" : `token ${i + 1}`} ${JSON.stringify(text)} after ${ms(at)}`,
    });
    mark.style.left = percent(at);
    return mark;
  });
  row.end = end;
  row.track.replaceChildren(...bars, line, ...marks);
  row.figure.replaceChildren(...figure(lane, until));
  const spoken = {
    waiting: "waiting",
    running: "running",
    stopped: "stopped",
    done: `first token after ${ms(stats?.first_token_ms ?? 0)}, then ${ms(stats?.per_token_ms ?? 0)} per token`,
  }[state];
  row.track.setAttribute("aria-label", `${NAMES[name]}: ${spoken}`);
}

/**
 * The parts of the time to the first token, known when the run is done.
 *
 * @param {Lane} lane
 * @param {number} first
 */
function segments({ name, state, stats }, first) {
  const computing = name === "full" ? "prefill: every token is computed" : "compute the new tokens";
  if (state === "waiting") return [];
  if (!stats) return [{ kind: name === "full" ? "new" : "cached", from: 0, to: first, title: "" }];
  const { queue_ms, fetch_ms, splice_ms, look_ms } = stats;
  const lengths = /** @type {const} */ ([
    ["queue", "wait for a place", queue_ms],
    ["cached", "fetch the blocks", fetch_ms],
    ["look", "find out what the question attends to", look_ms],
    ["splice", "splice them", splice_ms],
    ["new", computing, Math.max(0, stats.first_token_ms - queue_ms - fetch_ms - look_ms - splice_ms)],
  ]);
  let to = 0;
  return lengths.flatMap(([kind, what, length]) => {
    const from = to;
    to += length;
    return length < 0.5 ? [] : [{ kind, from, to, title: `${what}: ${ms(length)}` }];
  });
}

/**
 * @param {Lane} lane
 * @param {number} until
 */
function figure({ state, tokens, stats }, until) {
  const first = stats?.first_token_ms ?? tokens[0]?.at;
  if (state === "waiting") return [element("span", { className: "quiet" }, "next")];
  if (first === undefined)
    return state === "stopped" ? [element("span", { className: "quiet" }, "stopped")] : [element("b", { className: "quiet" }, ms(until))];
  const rest = state === "stopped" ? "stopped" : stats && tokens.length > 1 ? `then ${ms(stats.per_token_ms)} per token` : "";
  return [element("b", {}, ms(first)), element("span", { className: "quiet" }, rest)];
}

/** @param {number} end */
function ticks(end) {
  const parts = [5, 4, 3].find((each) => Number.isInteger((end / each / 10 ** Math.floor(Math.log10(end / each))) * 2)) ?? 4;
  return Array.from({ length: parts + 1 }, (_, i) => {
    const tick = element("span", {}, count((i * end) / parts));
    tick.style.left = `${(100 * i) / parts}%`;
    return tick;
  });
}

/**
 * @param {number} spliced
 * @param {number | undefined} full
 */
function headline(spliced, full) {
  if (full === undefined) return [element("b", {}, ms(spliced)), " to the first token"];
  const ratio = full / spliced;
  const told = ratio >= 1 ? `${ratio.toFixed(1)} times faster` : `${(1 / ratio).toFixed(1)} times slower`;
  return [element("b", {}, told), ` to the first token: ${ms(spliced)} spliced, ${ms(full)} with full prefill`];
}

/** @param {readonly Lane[]} lanes */
function figures(lanes) {
  const rows = Math.max(...lanes.map(({ tokens }) => tokens.length));
  const head = element(
    "tr",
    {},
    element("th", { scope: "col" }, "Token"),
    ...lanes.flatMap(({ name }) => [element("th", { scope: "col" }, NAMES[name]), element("th", { scope: "col" }, "ms")]),
  );
  const body = Array.from({ length: rows }, (_, i) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, String(i + 1)),
      ...lanes.flatMap(({ tokens }) => [
        element("td", {}, element("code", {}, tokens[i] ? JSON.stringify(tokens[i].text) : "")),
        element("td", {}, tokens[i] ? count(tokens[i].at) : ""),
      ]),
    ),
  );
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
}
