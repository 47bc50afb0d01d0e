// The edits of a run, a line each: what is done, with what, how much on a slider, and a way to take it off.
import { useAnswer } from "../lib/api.js";
import { html, useLayoutEffect, useState } from "../lib/dom.js";
import { num } from "../lib/format.js";
import { at } from "../lib/place.js";

/** @typedef {{ kind: string, name: string, amount: number | null, unit: string }} Spoken */

const SAYS = /** @type {Record<string, string>} */ ({ "": "× its vector", max: "× its maximum", norm: "of the token's length", current: "× what it is", raw: "" });
/** The reach of a slider, by unit. */
const REACH = /** @type {Record<string, number>} */ ({ norm: 1 });

/** Times its maximum that a feature is held at before anybody turns the slider: at 5, more than half of a small model's text repeats itself. */
const HELD = 2;

/** A feature held, in words. @param {number | string} number */
export const held = (number) => `clamp ${number}=${HELD}max`;

/** `clamp 17=5max` in its parts; null for what no slider can turn. @param {string} edit @returns {Spoken | null} */
export function parsed(edit) {
  const whole = /^(add|clamp)\s+(.+)=([-+]?[\d.]+(?:e[-+]?\d+)?)(raw|norm|max|current)?$/i.exec(edit.trim());
  if (whole) return { kind: whole[1], name: whole[2], amount: Number(whole[3]), unit: whole[4] ?? "" };
  const bare = /^ablate\s+(.+)$/.exec(edit.trim());
  return bare ? { kind: "ablate", name: bare[1], amount: null, unit: "" } : null;
}

/** @param {Spoken} edit */
const words = (edit) => (edit.kind === "ablate" ? `ablate ${edit.name}` : `${edit.kind} ${edit.name}=${edit.amount ?? 1}${edit.unit}`);

/** @param {{ index: string, edits: readonly string[], onChange: (edits: readonly string[]) => void }} props */
export function EditList({ index, edits, onChange }) {
  if (edits.length === 0) return html`<p class="note">No edits yet. A feature is held at a multiple of its maximum; a direction is added as many times.</p>`;
  /** @param {number} i @param {string | null} edit */
  const put = (i, edit) => onChange(edit === null ? edits.filter((_, at) => at !== i) : edits.map((old, at) => (at === i ? edit : old)));
  return html`<ol class="edit-list">${edits.map((edit, i) => html`<${Line} key=${`${i} ${parsed(edit)?.name}`} index=${index} edit=${edit} onPut=${(/** @type {string | null} */ to) => put(i, to)} />`)}</ol>`;
}

/** @param {{ index: string, edit: string, onPut: (edit: string | null) => void }} props */
function Line({ index, edit, onPut }) {
  const spoken = parsed(edit);
  const isFeature = spoken !== null && /^\d+$/.test(spoken.name);
  const { value } = useAnswer(isFeature ? `/api${at(index)}/f/${spoken.name}` : null);
  const card = /** @type {Card | null} */ (isFeature ? value : null);
  const [now, setNow] = useState(spoken?.amount ?? 0);
  useLayoutEffect(() => setNow(spoken?.amount ?? 0), [spoken?.amount]);
  const off = html`<button class="plain off" aria-label=${`take off ${edit}`} data-tip="take it off" onClick=${() => onPut(null)}>✕</button>`;
  if (!spoken) return html`<li><code>${edit}</code>${off}</li>`;
  const reach = Math.max(REACH[spoken.unit] ?? 10, Math.abs(spoken.amount ?? 0));
  const kinds = isFeature ? ["clamp", "add", "ablate"] : ["add", "ablate"];
  return html`<li>
    <div class="named"><select aria-label="what is done" value=${spoken.kind} onChange=${(/** @type {any} */ event) => onPut(words({ ...spoken, amount: spoken.amount ?? (isFeature ? HELD : 1), unit: spoken.unit || (isFeature ? "max" : ""), kind: event.currentTarget.value }))}>${kinds.map((kind) => html`<option value=${kind}>${kind}</option>`)}</select>
      ${isFeature ? html`<a class="label" href=${`${at(index)}/f/${spoken.name}`}><span class="number">${spoken.name}</span> ${card?.label.text ?? ""}</a>` : html`<span class="label">${spoken.name}</span>`}${off}</div>
    ${spoken.amount !== null && html`<label><input type="range" aria-label=${`how much of ${spoken.name}`} min=${-reach} max=${reach} step=${reach / 20} value=${now}
      onInput=${(/** @type {any} */ event) => setNow(Number(event.currentTarget.value))} onChange=${(/** @type {any} */ event) => onPut(words({ ...spoken, amount: Number(Number(event.currentTarget.value).toPrecision(4)) }))} />
      <span class="amount"><b>${num(now)}</b> ${SAYS[spoken.unit] ?? ""}${card && spoken.unit === "max" ? html` <small>= ${num(now * card.statistics.max)}</small>` : ""}</span></label>`}
  </li>`;
}
