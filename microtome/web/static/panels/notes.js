// What people keep of a feature: a verdict on its label, the lists it is on, and remarks.
import { post } from "../lib/api.js";
import { html, useState } from "../lib/dom.js";
import { at } from "../lib/place.js";
import { ErrorPanel } from "./states.js";
import { ToList, listed } from "./tolist.js";

const VERDICTS = /** @type {const} */ ([["holds", "the label says what it does"], ["partly", "the label says some of it"], ["wrong", "it does something else"], ["unclear", "no label can be told"]]);

/** @param {{ card: Card, onChange: () => void }} props */
export function NotesPanel({ card, onChange }) {
  const [text, setText] = useState("");
  const [error, setError] = useState(/** @type {any} */ (null));
  const root = `/api${at(card.index)}`;
  /** @param {string} url @param {object} body @param {() => void} [then] */
  const save = (url, body, then) =>
    post(url, body).then(() => {
      then?.();
      setError(null);
    }, setError).then(onChange);
  /** @param {Event} event */
  const note = (event) => {
    event.preventDefault();
    void save(`${root}/f/${card.feature}/notes`, { text }, () => setText(""));
  };
  return html`<section class="panel" id="notes">
    <h2>Yours</h2>
    <div class="keeping"><span class="choice" role="group" aria-label="verdict on its label">${VERDICTS.map(([name, tip]) => html`<button aria-pressed=${card.verdict === name} data-tip=${tip} onClick=${() => save(`${root}/f/${card.feature}/verdict`, { verdict: card.verdict === name ? "" : name })}>${name}</button>`)}</span></div>
    <div class="keeping">${card.lists.map((name) => html`<span class="tag"><a href=${listed(card.index, name)}>${name}</a><button class="plain" aria-label=${`off the list ${name}`} onClick=${() => save(`${root}/lists`, { name, remove: [card.feature] })}>×</button></span>`)}
      <${ToList} index=${card.index} say="Put it on a list" features=${async () => [card.feature]} of=${`${card.feature} ${card.lists.length}`} done=${onChange} /></div>
    ${card.notes.map((one) => html`<p class="remark">${one.text}<time>${one.created.slice(0, 10)}</time></p>`)}
    <form class="rename" onSubmit=${note}>
      <input value=${text} maxlength="500" aria-label="note" placeholder="What you found" onInput=${(/** @type {any} */ event) => setText(event.currentTarget.value)} />
      <button disabled=${!text.trim()}>Keep</button>
    </form>
    ${error && html`<${ErrorPanel} error=${error} />`}
  </section>`;
}
