// A box for texts: it takes as much as the server does, says when there is more, and writes each text in its own direction.
import { html } from "../lib/dom.js";
import { count } from "../lib/format.js";

/** Most characters of a text: `MAX_TEXT_CHARS` of the server, as a test sees to. */
export const TEXT_CHARS = 20000;
/** Most prompts of one question: its `MAX_TEXTS`. */
export const TEXTS = 200;

/** Characters as the server counts them. @param {string} text */
const size = (text) => [...text].length;

/** Whether the server takes it. @param {string} text */
export const fits = (text) => size(text) <= TEXT_CHARS;

/** The first of some prompts as the text of a box: as many as it takes, none of them cut. @param {readonly string[]} prompts */
export function fitting(prompts) {
  let left = TEXT_CHARS + 1;
  const end = prompts.findIndex((one) => (left -= size(one) + 1) < 0);
  return prompts.slice(0, Math.min(TEXTS, end < 0 ? prompts.length : end)).join("\n");
}

/** @param {{ id: string, label?: string, rows: number, hint: string, text: string, set: (text: string) => void, press: (event: KeyboardEvent) => void }} props */
export const TextBox = ({ id, label, rows, hint, text, set, press }) => html`<textarea id=${id} dir="auto" rows=${rows} aria-label=${label} placeholder=${hint} value=${text}
  onInput=${(/** @type {any} */ event) => set(event.currentTarget.value)} onKeyDown=${press}></textarea>`;

/** Said of a text that is too long; nothing of one that fits. @param {{ text: string }} props */
export const TooLong = ({ text }) => (fits(text) ? null : html`<p class="flag" role="alert">${count(size(text))} characters: at most ${count(TEXT_CHARS)} are taken. Shorten it to run.</p>`);
