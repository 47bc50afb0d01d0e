// The keyboard, on a sheet.
import { html, useLayoutEffect, useRef } from "../lib/dom.js";
import { HELP } from "../lib/keys.js";

/** @param {{ onClose: () => void }} props */
export function HelpSheet({ onClose }) {
  const sheet = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useLayoutEffect(() => sheet.current?.showModal(), []);
  return html`<dialog class="help" ref=${sheet} onClose=${onClose} onClick=${(/** @type {Event} */ event) => event.target === sheet.current && sheet.current?.close()}>
    <h2>Keys</h2>
    <dl>${HELP.map(([keys, text]) => html`<dt>${keys.split("  ").map((key) => html`<kbd>${key}</kbd> `)}</dt><dd>${text}</dd>`)}</dl>
    <form method="dialog"><button class="main">Close</button></form>
  </dialog>`;
}
