// Dose against effect, beside a random direction of equal length, and what it costs in coherence.
import { ReproduceFold } from "./reproduce.js";
import { ModelWait } from "./modelwait.js";
import { ErrorPanel } from "./states.js";
import { useAnswer } from "../lib/api.js";
import { html, useState } from "../lib/dom.js";
import { num } from "../lib/format.js";
import { address, at } from "../lib/place.js";

const DOSES = [0, 0.5, 1, 1.5, 2];
const [WIDE, HIGH, LEFT, FOOT] = [420, 170, 46, 30];

/** @typedef {{ name: string, tone: string, values: readonly number[] }} Line */

/** @param {{ index: string, body: any }} props `body` is what was run */
export function DosesPanel({ index, body }) {
  const [measure, setMeasure] = useState("kl");
  const [asked, setAsked] = useState(/** @type {any} */ (null));
  const url = `/api${at(index)}/steer/doses`;
  const { value, error, loading, again } = useAnswer(asked ? url : null, asked ?? undefined);
  const answer = /** @type {{ doses: readonly Dose[], reproduce: any } | null} */ (asked ? value : null);
  const run = () => setAsked({ ...body, dose: DOSES, measure, random: 1 });
  return html`<section class="panel" id="doses"><div class="bar-head"><h2>Dose against effect</h2>
      <input aria-label="measure" class="measure" data-tip="kl, or “logits: Yes| No”, or “regex:PATTERN”" value=${measure} maxlength="500" onInput=${(/** @type {any} */ event) => setMeasure(event.currentTarget.value)} />
      <button id="measure-doses" disabled=${loading || !measure.trim()} onClick=${run}>Measure</button></div>
    ${!asked && html`<p class="note">Runs the prompt at ${DOSES.length} multiples of the edits, beside a random direction of equal length.</p>`}
    ${loading && html`<${ModelWait} index=${index} />`}
    ${error && html`<${ErrorPanel} error=${error} again=${again} />`}
    ${answer && html`<${Curves} doses=${answer.doses} /><${ReproduceFold} recipe=${answer.reproduce} json=${address(url, asked)} />`}
  </section>`;
}

/** @param {{ doses: readonly Dose[] }} props */
function Curves({ doses }) {
  const at = doses.map((one) => one.dose);
  const effect = [{ name: "edits", tone: "up", values: doses.map((one) => one.effect.value) }];
  if (doses.every((one) => "random" in one.controls)) effect.push({ name: "random direction", tone: "dim", values: doses.map((one) => one.controls.random.value) });
  return html`<div class="pair curves">
      <${Curve} at=${at} lines=${effect} label=${`effect: ${doses[0].effect.name}, ${doses[0].effect.unit}`} />
      <${Curve} at=${at} lines=${[{ name: "edited text", tone: "down", values: doses.map((one) => one.coherence.value) }]} label="coherence: nats a token, low is coherent" /></div>
    <table class="plain-table"><thead><tr><th class="n">dose</th><th class="n">effect</th><th class="n">random</th><th class="n">coherence</th><th>text</th></tr></thead>
      <tbody>${doses.map((one) => html`<tr><td class="n">${num(one.dose)}</td><td class="n">${num(one.effect.value)}</td><td class="n">${"random" in one.controls ? num(one.controls.random.value) : ""}</td><td class="n">${num(one.coherence.value)}</td><td class="said">${one.text}</td></tr>`)}</tbody></table>
    <p class="note">One prompt, so no interval: <code>microtome steer … --prompts FILE</code> measures on many. An effect that comes only where coherence is lost is a broken model.</p>`;
}

/** @param {{ at: readonly number[], lines: readonly Line[], label: string }} props */
function Curve({ at, lines, label }) {
  const all = lines.flatMap((line) => line.values);
  const [low, high] = [Math.min(0, ...all), Math.max(...all, 1e-9)];
  const x = (/** @type {number} */ dose) => LEFT + ((dose - at[0]) / (at[at.length - 1] - at[0] || 1)) * (WIDE - LEFT - 12);
  const y = (/** @type {number} */ value) => HIGH - FOOT - ((value - low) / (high - low || 1)) * (HIGH - FOOT - 14);
  return html`<figure><svg class="curve" viewBox=${`0 0 ${WIDE} ${HIGH}`} role="img" aria-label=${label}>
      <line class="axis" x1=${LEFT} x2=${WIDE - 8} y1=${y(0)} y2=${y(0)} />
      <text x=${LEFT - 6} y=${y(high) + 4} text-anchor="end">${num(high)}</text><text x=${LEFT - 6} y=${y(low) + 4} text-anchor="end">${num(low)}</text>
      ${at.map((dose) => html`<text x=${x(dose)} y=${HIGH - 10} text-anchor="middle">${num(dose)}</text>`)}
      ${lines.map((line) => html`<g class=${line.tone}><polyline points=${line.values.map((value, i) => `${x(at[i])},${y(value)}`).join(" ")} />${line.values.map((value, i) => html`<circle cx=${x(at[i])} cy=${y(value)} r="3.5" data-tip=${`${line.name}\ndose ${num(at[i])}: ${num(value)}`} />`)}</g>`)}
    </svg><figcaption>${label}${lines.length > 1 && html` · ${lines.map((line) => html`<span class=${`key ${line.tone}`}>${line.name}</span> `)}`}</figcaption></figure>`;
}
