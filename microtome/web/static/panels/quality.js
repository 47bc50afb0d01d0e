// The dictionary's held-out figures, each beside its controls.
import { HistogramChart } from "./charts.js";
import { html } from "../lib/dom.js";
import { count, num } from "../lib/format.js";

/** Anything in the quality record that is a `Result`. @param {any} value */
const isResult = (value) => value !== null && typeof value === "object" && typeof value.value === "number" && "baselines" in value;

/** How often features fire on held-out tokens, beside the random control in the same bins. @param {{ quality: Record<string, any> }} props */
function Densities({ quality }) {
  const random = (quality.control_densities ?? []).find((/** @type {any} */ control) => control.name === "random");
  if (!random) return null;
  const edges = quality.density_edges.map((/** @type {number} */ edge) => 10 ** edge);
  const sides = [["this dictionary", quality.density_counts, quality.never_active], ["random control", random.counts, random.never_active]];
  return html`<div>${sides.map(([name, counts, never]) => html`<div>
    <p class="note">${name}: ${count(never)} features never fire here</p>
    <${HistogramChart} histogram=${{ edges, counts, unit: "density", log: true }} what="features" height=${72} /></div>`)}</div>`;
}

/** Columns of the table, in this order. */
const CONTROLS = ["random", "frozen decoder", "k-means", "pca", "neurons", "mean"];

/** @param {{ quality: Record<string, any>, quantised: string }} props */
export function QualityPanel({ quality, quantised }) {
  const results = Object.entries(quality).filter(([, value]) => isResult(value));
  if (results.length === 0) {
    return html`<section class="panel" id="quality"><h2>Quality</h2><p class="quiet">Not measured for this dictionary.</p></section>`;
  }
  const named = new Set(results.flatMap(([, result]) => Object.keys(result.baselines)));
  const controls = [...CONTROLS.filter((name) => named.has(name)), ...[...named].filter((name) => !CONTROLS.includes(name))];
  const leftOut = Object.entries(quality.controls_left_out ?? {});
  return html`<section class="panel" id="quality"><h2>Quality on held-out text</h2>
    <table class="mini">
      <thead><tr><th></th><th>this dictionary</th>${controls.map((name) => html`<th>${name} <span class="quiet">control</span></th>`)}</tr></thead>
      <tbody>${results.map(([key, result]) => html`<tr data-tip=${result.definition}><td>${result.name || key}</td>
        <td><b>${num(result.value)}</b>${result.unit && html` <small>${result.unit}</small>`}${result.low !== null && html` <small>${num(result.low)} – ${num(result.high)}</small>`}</td>
        ${controls.map((name) => html`<td class="quiet">${name in result.baselines ? num(result.baselines[name]) : ""}</td>`)}</tr>`)}</tbody>
    </table>
    ${quality.ce_undefined && html`<p class="note">Cross-entropy recovered is not defined: ${quality.ce_undefined}.</p>`}
    ${leftOut.map(([name, why]) => html`<p class="note">No ${name} control: ${why}.</p>`)}
    <${Densities} quality=${quality} />
    <p class="note">95 % intervals: ${results.map(([key, result]) => `${result.name || key}, n ${count(result.n)}`).join("; ")}.${quantised && ` Measured on the ${quantised} model.`}</p>
  </section>`;
}
