// What the graph explains: its targets, and the prompt they follow.
import { Bar } from "../panels/charts.js";
import { html } from "../lib/dom.js";
import { percent } from "../lib/format.js";
import { select } from "./state.js";
import { title, where } from "./view.js";

/** @param {{ view: import("./view.js").View, at: number }} props */
export function TargetsPanel({ view, at }) {
  const targets = view.nodes.flatMap((node, i) => (node.kind === "target" ? [i] : []));
  const most = Math.max(...targets.map((i) => view.nodes[i].probability ?? 0), 1e-9);
  return html`<section class="panel" id="targets"><h2>Explains</h2>
    <ol class="list">${targets.map((i) => {
      const node = view.nodes[i];
      return html`<li class=${i === at ? "on" : ""} data-tip=${`${node.id} · ${where(view, node)}`}><button class="plain" onClick=${() => select(node.id)}>${node.feature >= 0 ? html`<span class="piece">${title(view, node)}</span>` : title(view, node)}</button>
        <${Bar} part=${(node.probability ?? 0) / most} tone="up" /><span class="value">${node.feature >= 0 ? percent(node.probability ?? 0) : ""}</span></li>`;
    })}</ol></section>`;
}
