// What a feature is called, how that name was found and how good it is; a person can give another.
import { post } from "../lib/api.js";
import { html, useLayoutEffect, useState } from "../lib/dom.js";
import { num, percent, share } from "../lib/format.js";
import { at } from "../lib/place.js";
import { ErrorPanel } from "./states.js";

const FIRING = "For the rule's figures a feature fires where it exceeds this: a share (25 %, unless the index was made with another fire_share) of the 99th percentile of its activations in the train documents. The other panels count every activation.";

/** @param {{ card: Card, onChange: () => void }} props */
export function LabelPanel({ card, onChange }) {
  const [editing, setEditing] = useState(false);
  const [text, setText] = useState("");
  const [error, setError] = useState(/** @type {any} */ (null));
  useLayoutEffect(() => setEditing(false), [card.feature]);
  const mine = card.label.origin === "user";
  /** @param {string} label */
  const save = (label) =>
    post(`/api${at(card.index)}/f/${card.feature}/label`, { text: label }).then(() => {
      setEditing(false);
      setError(null);
      onChange();
    }, setError);
  const edit = () => {
    setText(mine ? card.label.text : "");
    setEditing(true);
  };
  return html`<div class="naming">
    <h1>${card.label.text}</h1>
    ${editing
      ? html`<form class="rename" onSubmit=${(/** @type {Event} */ event) => { event.preventDefault(); void save(text); }}>
          <input value=${text} maxlength="500" autofocus aria-label="your label" placeholder="Your label for this feature" onInput=${(/** @type {any} */ event) => setText(event.currentTarget.value)} />
          <button class="main" disabled=${!text.trim()}>Save</button>
          ${mine && html`<button type="button" onClick=${() => save("")}>Back to the rule's</button>`}
          <button type="button" onClick=${() => setEditing(false)}>Cancel</button>
        </form>`
      : html`<p class="origin"><${Origin} card=${card} mine=${mine} /> <button class="plain" onClick=${edit}>${mine ? "edit" : "name it yourself"}</button></p>`}
    ${error && html`<${ErrorPanel} error=${error} />`}
  </div>`;
}

/** @param {{ card: Card, mine: boolean }} props */
function Origin({ card, mine }) {
  const { rule } = card;
  if (rule.kind === "dead") return html`<span>No rule: it never fires on this corpus.</span>`;
  const test = rule.f1_test === null ? "" : ` · on held-out documents ${share(rule.f1_test)} (by chance ${share(rule.f1_null)})`;
  return html`<span>
    ${mine ? html`Your label. The rule's: <i>${rule.text}</i>, ` : html`Found by a rule (${rule.kind}), `}
    <span class=${`badge ${rule.weak ? "weak" : ""}`} data-tip="F1 of “the rule holds” against “the feature fires”, over all kept tokens">F1 ${share(rule.f1)}</span>
    <span class="quiet"> precision ${percent(rule.precision)} · recall ${percent(rule.recall)}${test} · <span data-tip=${FIRING}>only activations above ${num(rule.threshold)} count</span></span>
  </span>`;
}
