// How much of the graph is shown, and what that hides.
import { html, useLayoutEffect, useState } from "../lib/dom.js";
import { count, percent } from "../lib/format.js";
import { LINKS, change } from "./state.js";

/** @typedef {import("./view.js").View} View */

/** @param {{ view: View, state: import("./state.js").State, hasDensities: boolean }} props */
export function Sliders({ view, state, hasDensities }) {
  const { hidden } = view;
  return html`<section class="panel sliders" id="sliders">
    <${Slider} name="node" label="Nodes for" value=${view.thresholds.node} unit="of influence" tip="the fewest nodes that together carry this share of all influence on the output" />
    <${Slider} name="edge" label="Edges for" value=${view.thresholds.edge} unit="of theirs" tip="the fewest edges among them that together carry this share" />
    <${DensitySlider} value=${state.density} known=${hasDensities} />
    <label data-tip="edges drawn whatever is selected, the heaviest; those of a selected node are always drawn">Draw the <input id="links" type="number" min="0" max="20000" step="50" value=${state.links} onChange=${(/** @type {any} */ event) => change({ links: Number(event.currentTarget.value) === LINKS ? null : event.currentTarget.value })} /> heaviest edges</label>
    <p class="hides" role="status">${hidden.nodes + hidden.edges === 0 ? "Nothing is hidden." : html`Hidden: <b>${count(hidden.nodes)}</b> nodes, <b>${count(hidden.edges)}</b> edges, <b>${percent(hidden.influence)}</b> of influence.`}${" "}
      <span class="quiet">Shown: ${count(view.nodes.length)} nodes, ${count(view.edges.length)} edges.</span></p>
  </section>`;
}

/** @param {{ name: string, label: string, value: number, unit: string, tip: string }} props */
export function Slider({ name, label, value, unit, tip }) {
  const [now, setNow] = useState(value);
  useLayoutEffect(() => setNow(value), [value]);
  return html`<label data-tip=${tip}><span>${label} <b>${percent(now)}</b> ${unit}</span>
    <input id=${name} type="range" min="0.05" max="1" step="0.01" value=${now} onInput=${(/** @type {any} */ event) => setNow(Number(event.currentTarget.value))} onChange=${(/** @type {any} */ event) => change({ [name]: event.currentTarget.value })} /></label>`;
}

/** Densities are spread over decades, so the slider is one of decades. @param {{ value: string, known: boolean }} props */
function DensitySlider({ value, known }) {
  const decade = value === "" ? 0 : Math.log10(Number(value));
  const [now, setNow] = useState(decade);
  useLayoutEffect(() => setNow(decade), [decade]);
  const most = 10 ** now;
  if (!known) return html`<p class="note" data-tip="microtome index makes one">No feature index of these dictionaries is in the workspace, so how often features fire is not known.</p>`;
  return html`<label data-tip="features that fire on a larger share of the corpus' tokens are left out"><span>Features on at most <b>${percent(most)}</b> of tokens</span>
    <input id="density" type="range" min="-4" max="0" step="0.1" value=${now} onInput=${(/** @type {any} */ event) => setNow(Number(event.currentTarget.value))} onChange=${(/** @type {any} */ event) => change({ density: Number(event.currentTarget.value) >= 0 ? null : (10 ** Number(event.currentTarget.value)).toPrecision(3) })} /></label>`;
}
