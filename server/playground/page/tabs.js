import { tabOfAddress } from "./address.js";
import { find } from "./dom.js";

/** Tabs as in the ARIA practices: one tab stop, with arrow keys between the tabs. The URL keeps the choice. */
export function startTabs() {
  const list = find("[role=tablist]", HTMLElement);
  const tabs = Array.from(list.querySelectorAll("button"));

  /** @param {HTMLButtonElement | undefined} chosen */
  const choose = (chosen) => {
    for (const tab of tabs) {
      const selected = tab === chosen;
      tab.setAttribute("aria-selected", String(selected));
      tab.tabIndex = selected ? 0 : -1;
      find(`#${tab.getAttribute("aria-controls")}`, HTMLElement).hidden = !selected;
    }
  };
  const chosenByAddress = () => tabs.find(({ id }) => id === `tab-${tabOfAddress()}`) ?? tabs[0];

  list.addEventListener("click", ({ target }) => {
    if (!(target instanceof HTMLButtonElement)) return;
    history.replaceState(null, "", `#${target.id.slice("tab-".length)}`);
    choose(target);
  });
  list.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const at = tabs.findIndex((tab) => tab === document.activeElement);
    if (step === undefined || at < 0) return;
    event.preventDefault();
    const next = tabs[(at + step + tabs.length) % tabs.length];
    next?.focus();
    next?.click();
  });
  addEventListener("hashchange", () => choose(chosenByAddress()));
  choose(chosenByAddress());
}
