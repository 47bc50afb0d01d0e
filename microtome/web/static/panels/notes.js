// Remarks that people left on a feature.
import { post } from "../lib/api.js";
import { html, useState } from "../lib/dom.js";
import { at } from "../lib/place.js";
import { ErrorPanel } from "./states.js";

/** @param {{ card: Card, onChange: () => void }} props */
export function NotesPanel({ card, onChange }) {
  const [text, setText] = useState("");
  const [error, setError] = useState(/** @type {any} */ (null));
  /** @param {Event} event */
  const save = (event) => {
    event.preventDefault();
    post(`/api${at(card.index)}/f/${card.feature}/notes`, { text }).then(() => {
      setText("");
      setError(null);
      onChange();
    }, setError);
  };
  return html`<section class="panel" id="notes">
    <h2>Notes</h2>
    ${card.notes.map((note) => html`<p class="remark">${note.text}<time>${note.created.slice(0, 10)}</time></p>`)}
    <form class="rename" onSubmit=${save}>
      <input value=${text} maxlength="500" aria-label="note" placeholder="What you found" onInput=${(/** @type {any} */ event) => setText(event.currentTarget.value)} />
      <button disabled=${!text.trim()}>Keep</button>
    </form>
    ${error && html`<${ErrorPanel} error=${error} />`}
  </section>`;
}
