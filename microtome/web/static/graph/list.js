// All nodes that are shown, by influence; and the search among them.
import { html, useState } from "../lib/dom.js";
import { count, percent } from "../lib/format.js";
import { useDebounced } from "../lib/debounce.js";
import { setQuery } from "../lib/place.js";
import { select, togglePins } from "./state.js";
import { title, where } from "./view.js";

/** @typedef {import("./view.js").View} View */

const FIRST = 14;

/** The nodes whose name, id or token holds the text; null for an empty text. @param {View} view @param {string} text @returns {ReadonlySet<number> | null} */
export function matches(view, text) {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return null;
  const found = new Set();
  view.nodes.forEach((node, i) => {
    if (`${node.id}\n${title(view, node)}\n${view.tokens[node.position] ?? ""}`.toLowerCase().includes(wanted)) found.add(i);
  });
  return found;
}

/** @param {{ view: View, found: ReadonlySet<number> | null, order: readonly number[], at: number, state: import("./state.js").State }} props `order`: nodes, most influential first */
export function NodeList({ view, found, order, at, state }) {
  const [all, setAll] = useState(false);
  const [text, setText] = useDebounced(state.find, (value) => setQuery({ find: value }));
  const listed = found === null ? order : order.filter((node) => found.has(node));
  const shown = all ? listed : listed.slice(0, FIRST);
  return html`<section class="panel nodes" id="nodes">
    <div class="bar-head"><h2>Nodes <span class="quiet" role="status">${found === null ? count(view.nodes.length) : `${count(listed.length)} of ${count(view.nodes.length)}`}</span></h2>
      ${found !== null && listed.length > 0 && listed.length <= 60 && html`<button onClick=${() => togglePins(state, listed.map((node) => view.nodes[node].id))}>Pin these</button>`}</div>
    <input id="find" type="search" aria-label="search nodes" placeholder="Label, token or id" maxlength="200" value=${text} onInput=${(/** @type {any} */ event) => setText(event.currentTarget.value)} />
    ${listed.length === 0 && html`<p class="quiet">No shown node fits; a smaller threshold may have hidden it.</p>`}
    <ol class="list">${shown.map((node) => html`<li class=${node === at ? "on" : ""}><span class=${`mark of-${view.nodes[node].kind}`}></span>
      <button class="plain label" data-id=${view.nodes[node].id} onClick=${() => select(view.nodes[node].id)}>${title(view, view.nodes[node])}</button>
      <span class="quiet at">${where(view, view.nodes[node])}</span><span class="value" data-tip="share of all influence down to this node: small is important">${view.nodes[node].kind === "target" ? "" : percent(view.nodes[node].influence)}</span></li>`)}</ol>
    ${shown.length < listed.length && html`<button class="plain" onClick=${() => setAll(true)}>${count(listed.length - shown.length)} more</button>`}
  </section>`;
}
