// The keyboard: pages say which keys do what; typing into a field is left alone.
import { useLayoutEffect } from "./dom.js";

/** Keys, what they do and the words for the help sheet. */
export const HELP = [
  ["/", "search labels, or type a feature's number"],
  ["j  →", "next feature or document"],
  ["k  ←", "previous feature or document"],
  ["r", "a random feature"],
  ["t", "type a text to test"],
  ["f", "feature table"],
  ["o", "overview of the index"],
  ["d", "light or dark"],
  ["i  n", "in a graph: to the strongest input, output"],
  ["p", "in a graph: pin the node"],
  ["u  U", "in a graph: undo, redo"],
  ["+  -  0", "on the map: nearer, farther, all of it"],
  ["c  C", "on the map: next, previous cluster"],
  ["l", "on the map: draw around features"],
  ["Esc", "leave a field, close, unpin"],
  ["?", "this help"],
];

/** @param {EventTarget | null} target */
const isTyping = (target) => target instanceof HTMLElement && (target.matches("input, textarea, select") || target.isContentEditable);

/** From the moment that the page shows them: what a plain effect does a frame later, a quick finger misses.
 * @param {Record<string, (event: KeyboardEvent) => void>} keys by `event.key` */
export function useKeys(keys) {
  useLayoutEffect(() => {
    /** @param {KeyboardEvent} event */
    const press = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (isTyping(event.target)) {
        if (event.key === "Escape") /** @type {HTMLElement} */ (event.target).blur();
        return;
      }
      const act = keys[event.key];
      if (!act) return;
      event.preventDefault();
      act(event);
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  });
}

/** Focus the first element that fits. @param {string} selector */
export function focus(selector) {
  const element = document.querySelector(selector);
  if (element instanceof HTMLElement) element.focus();
  if (element instanceof HTMLInputElement) element.select();
}
