// A panel that asks the server for its own answer, a moment after the page came, and says how to get the same elsewhere.
import { Reproduce } from "./reproduce.js";
import { ErrorPanel, Loading } from "./states.js";
import { PAUSE, useAnswer } from "../lib/api.js";
import { html, useState } from "../lib/dom.js";

/** @param {{ id: string, title: string, url: string, show: (answer: any, again: () => void) => any, note?: any, tools?: any }} props `show` draws the answer */
export function Asking({ id, title, url, show, note, tools }) {
  const { value, error, loading, again } = useAnswer(url, undefined, PAUSE);
  const answer = /** @type {any} */ (value);
  return html`<section class=${`panel asking${loading && answer ? " stale" : ""}`} id=${id} aria-busy=${loading}>
    <div class="panel-head"><h2>${title}</h2>${tools}</div>
    ${error && html`<${ErrorPanel} error=${error} again=${again} />`}
    ${!error && !answer && html`<${Loading} lines=${4} />`}
    ${!error && answer && show(answer, again)}
    ${!error && answer && note && html`<p class="note">${note}</p>`}
    ${!error && answer && html`<${Fold} recipe=${answer.reproduce} json=${url} />`}
  </section>`;
}

/** Drawn when it is opened: a page has a dozen of them. @param {{ recipe: { python: string, shell: string }, json: string }} props */
function Fold({ recipe, json }) {
  const [open, setOpen] = useState(false);
  return html`<details class="fold" onToggle=${(/** @type {any} */ event) => setOpen(event.currentTarget.open)}><summary>Reproduce this</summary>
    ${open && html`<${Reproduce} recipe=${recipe} json=${json} what="answer" />`}</details>`;
}
