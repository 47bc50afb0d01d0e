// What was measured of a direction: each figure with its interval beside its controls, drawn on a scale of its own.
import { Curve } from "./curve.js";
import { html } from "../lib/dom.js";
import { count, num } from "../lib/format.js";

const [WIDE, HIGH] = [200, 18];
const MOST_ROWS = 40;

/** @param {{ id: string, title: string, results: readonly Result[] }} props */
export function MeasuredPanel({ id, title, results }) {
  return html`<section class="panel measured" id=${id}><h2>${title}</h2>
    ${results.length === 0
      ? html`<p class="quiet">Nothing of its own.</p>`
      : html`<div class="scroll"><table class="mini results"><thead><tr><th></th><th>value</th><th data-tip="95 %, where the figure’s definition says nothing else">interval</th><th>n</th><th class="drawn"></th><th class="beside">beside it</th></tr></thead>
        <tbody>${results.map((result) => html`<tr data-tip=${result.definition || null}><td>${result.name}</td><td><b>${num(result.value)}</b> <small>${result.unit}</small></td>
          <td>${result.low !== null && result.high !== null && `${num(result.low)} – ${num(result.high)}`}</td><td>${count(result.n)}${result.failures > 0 && html` <small>${count(result.failures)} failed</small>`}</td>
          <td class="drawn"><${Whisker} result=${result} /></td>
          <td class="beside">${Object.entries(result.baselines).map(([name, value]) => html`<span><span class="quiet">${name}</span> ${num(value)}</span> `)}</td></tr>`)}</tbody></table></div>
        <p class="note drawn">Dot and line: the value and its interval; ticks: what stands beside it.</p>`}
  </section>`;
}

/** @param {{ result: Result }} props */
function Whisker({ result }) {
  const { value, low, high } = result;
  const beside = Object.entries(result.baselines).filter(([name]) => name !== "p"); // a probability has no place on the figure's scale
  if (beside.length === 0 && (low === null || high === null)) return null; // alone it has no scale
  const all = [0, value, low ?? value, high ?? value, ...beside.map(([, number]) => number)];
  const [least, most] = [Math.min(...all), Math.max(...all)];
  const x = (/** @type {number} */ number) => 5 + ((number - least) / (most - least || 1)) * (WIDE - 10);
  return html`<svg class="whisker" width=${WIDE} height=${HIGH} role="img" aria-label=${`${num(value)} beside ${beside.map(([name, number]) => `${name} ${num(number)}`).join(", ") || "nothing"}`}>
    <line class="axis" x1=${x(0)} x2=${x(0)} y1="0" y2=${HIGH} />
    ${beside.map(([name, number]) => html`<line class="beside" x1=${x(number)} x2=${x(number)} y1="4" y2=${HIGH - 4} data-tip=${`${name} ${num(number)}`} />`)}
    ${low !== null && high !== null && html`<line class="interval" x1=${x(low)} x2=${x(high)} y1=${HIGH / 2} y2=${HIGH / 2} />`}
    <circle cx=${x(value)} cy=${HIGH / 2} r="4" data-tip=${num(value)} />
  </svg>`;
}

/** What a recipe tells beside its figures: numbers, lists and tables. @param {{ more: Record<string, any> }} props */
export function MorePanel({ more }) {
  const named = Object.entries(more);
  if (named.length === 0) return null;
  const [long, short] = [named.filter(([, value]) => Array.isArray(value) && value.length > 0), named.filter(([, value]) => !Array.isArray(value))];
  return html`<section class="panel" id="more"><h2>What the recipe tells</h2>
    ${short.length > 0 && html`<dl class="facts">${short.map(([name, value]) => html`<dt>${name.replaceAll("_", " ")}</dt><dd>${written(value)}</dd>`)}</dl>`}
    ${long.map(([name, values]) => html`<h3>${name.replaceAll("_", " ")}</h3><${Values} name=${name} values=${values} />`)}
  </section>`;
}

/** @param {{ name: string, values: readonly any[] }} props */
function Values({ name, values }) {
  if (values.every((value) => typeof value === "number")) {
    return html`<${Curve} at=${values.map((_, i) => i)} over="step" lines=${[{ name, tone: "up", values }]} label=${name} />`;
  }
  if (!values.every((value) => value !== null && typeof value === "object" && !Array.isArray(value))) return html`<p>${values.map(written).join(", ")}</p>`;
  const columns = [...new Set(values.flatMap((value) => Object.keys(value)))];
  return html`<div class="scroll"><table class="plain-table"><thead><tr>${columns.map((column) => html`<th>${column.replaceAll("_", " ")}</th>`)}</tr></thead>
      <tbody>${values.slice(0, MOST_ROWS).map((value) => html`<tr>${columns.map((column) => html`<td>${written(value[column] ?? "")}</td>`)}</tr>`)}</tbody></table></div>
    ${values.length > MOST_ROWS && html`<p class="note">${MOST_ROWS} of ${count(values.length)}; the JSON has all.</p>`}`;
}

/** A value of JSON as a person reads it. @param {any} value @returns {string} */
export function written(value) {
  if (typeof value === "number") return Number.isInteger(value) ? count(value) : num(value);
  if (value === null || typeof value !== "object") return String(value);
  const parts = Array.isArray(value) ? value.map(written) : Object.entries(value).filter(([, part]) => part !== null).map(([name, part]) => `${name} ${written(part)}`);
  return parts.join(", ");
}
