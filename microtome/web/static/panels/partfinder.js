// Finding what to steer with: features by label, by number, or by what fires on the prompt; directions by name.
import { Problem, post, useAnswer } from "../lib/api.js";
import { useDebounced } from "../lib/debounce.js";
import { html, useState } from "../lib/dom.js";
import { num } from "../lib/format.js";
import { address, at, directionAt } from "../lib/place.js";
import { held } from "./editlist.js";
import { ErrorPanel } from "./states.js";

const FOUND = 8;

/** @typedef {{ words: string, href: string, number?: number, label: string, note: string }} Part */

/** @param {{ index: string, text: string, onAdd: (edit: string) => void }} props `text` is the prompt */
export function PartFinder({ index, text, onAdd }) {
  const [wanted, setWanted] = useState("");
  const [shown, setShown] = useDebounced(wanted, setWanted);
  const [firing, setFiring] = useState(/** @type {readonly Part[] | null} */ (null));
  const [trouble, setTrouble] = useState(/** @type {Problem | null} */ (null));
  const number = /^#?(\d{1,12})$/.exec(wanted.trim());
  const parts = useAnswer(`/api${at(index)}/steer/parts`);
  const table = useAnswer(wanted.trim() && !number ? address(`/api${at(index)}/features`, { search: wanted.trim(), filter: "documents > 0", limit: FOUND }) : null);
  const card = useAnswer(number ? `/api${at(index)}/f/${number[1]}` : null);
  const rows = /** @type {readonly TableRow[]} */ (/** @type {any} */ (table.value)?.rows ?? []);
  const known = /** @type {readonly string[]} */ (/** @type {any} */ (parts.value)?.directions ?? []);
  const one = /** @type {Card | null} */ (number ? card.value : null);
  /** @param {number} number @param {string} label @param {number} max @returns {Part} */
  const feature = (number, label, max) => ({ words: held(number), href: `${at(index)}/f/${number}`, number, label, note: `max ${num(max)}` });
  /** @type {Part[]} */
  const found = [
    ...(one ? [feature(one.feature, one.label.text, one.statistics.max)] : []),
    ...(wanted.trim() && !number ? rows.map((row) => feature(row.feature, row.label, row.max)) : []),
    ...known.filter((name) => !number && (wanted.trim() === "" || name.toLowerCase().includes(wanted.trim().toLowerCase()))).slice(0, FOUND).map((name) => ({ words: `add ${name}=1`, href: directionAt(name), label: name, note: "direction" })),
  ];
  const ask = () => {
    setTrouble(null);
    post(`/api${at(index)}/search`, { text, limit: FOUND }).then(
      (answer) => setFiring(answer.hits.map((/** @type {any} */ hit) => feature(hit.feature, hit.label, hit.max / hit.share_of_max))),
      (error) => setTrouble(error),
    );
  };
  /** @param {Part} part */
  const line = (part) => html`<li><span class="label">${part.number === undefined ? html`<a href=${part.href}>${part.label}</a>` : html`<a class="number" href=${part.href}>${part.number}</a> ${part.label}`}</span><span class="value quiet">${part.note}</span>
    <button class="add" aria-label=${`add ${part.words}`} onClick=${() => onAdd(part.words)}>Add</button></li>`;
  const error = table.error ?? card.error ?? parts.error ?? trouble;
  return html`<div class="finder">
    <div class="entry"><input id="find-part" type="search" aria-label="find a feature or a direction" placeholder="Find a feature by label or number, or a direction" maxlength="200" value=${shown} onInput=${(/** @type {any} */ event) => setShown(event.currentTarget.value)} />
      <button onClick=${ask} disabled=${!text.trim()} data-tip="runs the model on the prompt">Firing on the prompt</button></div>
    ${error && html`<${ErrorPanel} error=${error} />`}
    ${found.length > 0 && html`<ol class="list">${found.map(line)}</ol>`}
    ${wanted.trim() && !number && !table.loading && found.length === 0 && !error && html`<p class="note">Nothing is called that.</p>`}
    ${firing && html`<h3>fires on the prompt <button class="plain" onClick=${() => setFiring(null)}>hide</button></h3>${firing.length ? html`<ol class="list">${firing.map(line)}</ol>` : html`<p class="note">Nothing fires on it.</p>`}`}
  </div>`;
}
