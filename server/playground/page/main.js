import { startAsk } from "./ask.js";
import { find } from "./dom.js";
import { startPml } from "./pml.js";
import { RequestProblem, readState, useKey } from "./server.js";
import { startTabs } from "./tabs.js";

const notice = find("#notice", HTMLElement);
const noticeText = find("#notice-text", HTMLElement);
const retry = find("#retry", HTMLButtonElement);
const keyForm = find("#key-form", HTMLFormElement);
const key = find("#key", HTMLInputElement);

/** @param {RequestProblem} problem @returns {boolean} whether it is shown here: without a key, nothing on the page works */
function onProblem(problem) {
  if (!problem.key) return false;
  tell(problem.message);
  keyForm.hidden = false;
  key.focus();
  return true;
}

/** @param {string} problem */
function tell(problem) {
  notice.hidden = problem === "";
  noticeText.textContent = problem;
}

async function start() {
  retry.hidden = true;
  try {
    const state = await readState();
    tell("");
    keyForm.hidden = true;
    showAsk(state);
    showPml(state);
  } catch (error) {
    if (!(error instanceof RequestProblem)) throw error;
    if (onProblem(error)) return;
    tell(error.message);
    retry.hidden = false;
  }
}

const showAsk = startAsk(onProblem);
const showPml = startPml(onProblem);
startTabs();
retry.addEventListener("click", start);
keyForm.addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(key.value);
  key.value = "";
  void start();
});
await start();
