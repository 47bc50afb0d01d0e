// The selected node: what it is, and its inputs and outputs by weight with their signs.
import { Bar } from "../panels/charts.js";
import { html, useLayoutEffect, useState } from "../lib/dom.js";
import { count, percent } from "../lib/format.js";
import { gather, groupOf, select, togglePins } from "./state.js";
import { signed, strength, title, where } from "./view.js";

/** @typedef {import("./view.js").View} View */
/** @typedef {import("./links.js").Links} Links */
/** @typedef {import("./state.js").State} State */

const FIRST = 12;

/** @param {{ view: View, links: Links, at: number, state: State }} props */
export function SelectedPanel({ view, links, at, state }) {
  const node = view.nodes[at];
  const isPinned = state.pins.includes(node.id);
  const group = state.groups[groupOf(state, node.id)];
  const others = state.groups.filter((one) => one !== group);
  return html`<section class="panel selected" id="selected">
    <div class="bar-head"><h2>${title(view, node)}</h2>
      <button aria-pressed=${isPinned} onClick=${() => togglePins(state, [node.id])} data-tip="keep in the subgraph (p)">${isPinned ? "Pinned" : "Pin"}</button>
      <button class="plain" onClick=${() => select("")} aria-label="deselect" data-tip="Esc">✕</button></div>
    <dl class="facts"><dt>node</dt><dd class="code">${node.id}</dd><dt>at</dt><dd>${where(view, node)}</dd>
      ${strength(node) && html`<dt>strength</dt><dd>${strength(node)}</dd>`}
      ${node.kind !== "target" && node.kind !== "bias" && html`<dt>influence</dt><dd data-tip="share of all influence that this node and the more influential ones have">within the first ${percent(node.influence)}</dd>`}
      ${(group || others.length > 0) && html`<dt>supernode</dt><dd>${group ? html`${group.name} ` : ""}${others.map((one) => html`<button class="plain" onClick=${() => gather(state, { name: one.name, ids: [...one.ids, node.id] })}>${group ? "move" : "add"} to ${one.name}</button>`)}</dd>`}</dl>
    ${node.kind !== "target" && html`<${LinkList} id="outputs" name="Outputs" key=${`out ${node.id}`} view=${view} edges=${links.outputs[at]} end=${1} />`}
    ${node.kind !== "embedding" && html`<${LinkList} id="inputs" name="Inputs" key=${`in ${node.id}`} view=${view} edges=${links.inputs[at]} end=${0} />`}
  </section>`;
}

/** @param {{ id: string, name: string, view: View, edges: readonly number[], end: 0 | 1 }} props `end`: which end of an edge is the other node */
function LinkList({ id, name, view, edges, end }) {
  const [all, setAll] = useState(false);
  useLayoutEffect(() => setAll(false), [view]);
  const widest = edges.length > 0 ? Math.abs(view.edges[edges[0]][2]) : 1;
  const shown = all ? edges : edges.slice(0, FIRST);
  return html`<div id=${id} class="links"><h3>${name} <span class="quiet">${count(edges.length)}</span></h3>
    ${edges.length === 0 && html`<p class="quiet">None is shown at these thresholds.</p>`}
    <ol class="list">${shown.map((edge) => {
      const other = view.nodes[view.edges[edge][end]];
      const weight = view.edges[edge][2];
      return html`<li data-tip=${`${other.id} · ${where(view, other)}`}>
        <button class="plain label" data-id=${other.id} data-weight=${weight} onClick=${() => select(other.id)}>${title(view, other)}</button>
        <span class="quiet at">${where(view, other)}</span><${Bar} part=${Math.abs(weight) / widest} tone=${weight < 0 ? "down" : "up"} /><span class="value">${signed(weight)}</span></li>`;
    })}</ol>
    ${shown.length < edges.length && html`<button class="plain" onClick=${() => setAll(true)}>${count(edges.length - shown.length)} more</button>`}</div>`;
}
