// Predicted against measured: what the graph says of its nodes beside what the model did when they were changed.
import { ModelWait } from "../panels/modelwait.js";
import { ErrorPanel } from "../panels/states.js";
import { html, useEffect, useState } from "../lib/dom.js";
import { count, num } from "../lib/format.js";
import { twin, useRun } from "./run.js";
import { select } from "./state.js";
import { signed } from "./view.js";

/** @typedef {{ node: string, group: string, total: number, ablated: number, doubled: number, kl_ablated: number }} TrialNode */
/** @typedef {{ name: string, value: number, low: number | null, high: number | null, n: number, failures: number, definition: string, baselines: Record<string, number> }} Figure */
/** @typedef {{ target: string, nodes: readonly TrialNode[], results: readonly Figure[] }} Trial */

const SIZE = 260;
const EDGE = 34;

/** @param {{ view: import("./view.js").View, known: (id: string) => boolean, again: () => void }} props `known`: whether a node is shown; `again` asks for the graph anew */
export function TestedPanel({ view, known, again }) {
  const trial = /** @type {Trial | null} */ (view.tested);
  const { busy, error, value, run } = useRun(`${twin(view.name)}/trial`);
  useEffect(() => void (value && again()), [value]);
  return html`<section class="panel" id="tested">
    ${trial ? html`<${Tried} trial=${trial} known=${known} />` : html`<h2>Predicted against measured</h2>
      <p class="quiet">Not tested yet. The 20 features with most influence and 20 random active ones are set to 0 and doubled in the model, one at a time, and the change of the likeliest output is set beside what the graph predicts; the answer is kept.</p>`}
    <p><button id="test-run" class=${trial ? "" : "main"} disabled=${busy} onClick=${() => run({})}>${trial ? "Test anew" : "Test now"}</button></p>
    ${busy && html`<${ModelWait} url=${`${twin(view.name)}/model`} />`}
    ${error && html`<${ErrorPanel} error=${error} />`}
  </section>`;
}

/** @param {{ trial: Trial, known: (id: string) => boolean }} props */
function Tried({ trial, known }) {
  const [doubled, setDoubled] = useState(false);
  const points = trial.nodes.map((node) => ({ node, predicted: doubled ? node.total : -node.total, measured: doubled ? node.doubled : node.ablated }));
  const most = Math.max(...points.flatMap(({ predicted, measured }) => [Math.abs(predicted), Math.abs(measured)]), 1e-9);
  const at = (/** @type {number} */ value) => EDGE + ((value / most + 1) / 2) * (SIZE - 2 * EDGE);
  return html`<div class="bar-head"><h2>Predicted against measured <span class="quiet">${trial.target}, ${count(trial.nodes.length)} nodes</span></h2>
      <span class="choice" role="group" aria-label="change"><button aria-pressed=${!doubled} onClick=${() => setDoubled(false)}>set to 0</button><button aria-pressed=${doubled} onClick=${() => setDoubled(true)}>doubled</button></span></div>
    <div class="pair">
      <svg class="scatter" width=${SIZE} height=${SIZE} viewBox=${`0 0 ${SIZE} ${SIZE}`} role="img" aria-label="measured change of the target over the predicted one">
        <line x1=${at(0)} x2=${at(0)} y1=${EDGE} y2=${SIZE - EDGE} /><line y1=${at(0)} y2=${at(0)} x1=${EDGE} x2=${SIZE - EDGE} /><line x1=${EDGE} y1=${SIZE - EDGE} x2=${SIZE - EDGE} y2=${EDGE} stroke-dasharray="3 4" />
        <text x=${SIZE / 2} y=${SIZE - 10} text-anchor="middle">predicted change</text><text transform=${`translate(12 ${SIZE / 2}) rotate(-90)`} text-anchor="middle">measured</text>
        ${points.map(({ node, predicted, measured }) => html`<circle class=${node.group} cx=${at(predicted)} cy=${SIZE - at(measured)} r="4" onClick=${() => known(node.node) && select(node.node)} data-tip=${`${node.node}\npredicted ${signed(predicted)}, measured ${signed(measured)}\nKL when set to 0: ${num(node.kl_ablated)}`} />`)}</svg>
      <div><${Figures} results=${trial.results} />
        <p class="note">Violet: the nodes with most influence; amber: random active ones. Off the diagonal the graph was wrong.</p></div>
    </div>`;
}

/** Figures with their intervals; the tip says what each is, and what it is beside. @param {{ results: readonly Figure[] }} props */
export const Figures = ({ results }) => html`<table class="mini"><thead><tr><th></th><th>value</th><th>95 %</th><th>n</th></tr></thead>
  <tbody>${results.map((one) => html`<tr data-tip=${`${one.definition}\n${Object.entries(one.baselines).map(([name, value]) => `${name} ${num(value)}`).join(" · ")}`}>
    <td>${one.name}</td><td><b>${num(one.value)}</b></td><td>${one.low !== null && one.high !== null ? `${num(one.low)} – ${num(one.high)}` : ""}</td><td>${one.n}${one.failures > 0 ? ` (${one.failures} failed)` : ""}</td></tr>`)}</tbody></table>`;
