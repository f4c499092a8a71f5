/** @typedef {string | Node} Child */

/**
 * Creates an element with properties and children. `role` and properties with a dash are set as attributes.
 *
 * @template {keyof HTMLElementTagNameMap} Name
 * @param {Name} name
 * @param {Record<string, unknown>} [properties]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[Name]}
 */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "role" || key.includes("-")) made.setAttribute(key, String(value));
    else Object.assign(made, { [key]: value });
  }
  made.append(...children);
  return made;
}

/**
 * Finds the element that a selector names.
 *
 * @template {HTMLElement} Type
 * @param {string} selector
 * @param {new () => Type} type
 * @param {ParentNode} [within]
 * @returns {Type}
 */
export function find(selector, type, within = document) {
  const found = within.querySelector(selector);
  if (!(found instanceof type)) throw new Error(`The page has no ${selector}.`);
  return found;
}

/**
 * A message's text, with code elements for the parts in backticks.
 *
 * @param {string} message
 * @returns {Child[]}
 */
export function words(message) {
  return message.split("`").map((part, i) => (i % 2 === 1 ? element("code", {}, part) : part));
}

const WHOLE = new Intl.NumberFormat("en");

/** @param {number} value */
export function count(value) {
  return WHOLE.format(Math.round(value));
}

/**
 * @param {number} value
 * @param {string} noun
 */
export function counted(value, noun) {
  return `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
}

/** @param {number} value */
export function ms(value) {
  return `${count(value)} ms`;
}
