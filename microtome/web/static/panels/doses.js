// Dose against effect, beside a random direction of equal length, and what it costs in coherence.
import { Curve } from "./curve.js";
import { ReproduceFold } from "./reproduce.js";
import { ModelWait } from "./modelwait.js";
import { ErrorPanel } from "./states.js";
import { repeated } from "./twoanswers.js";
import { useAnswer } from "../lib/api.js";
import { html, useState } from "../lib/dom.js";
import { num } from "../lib/format.js";
import { address, at } from "../lib/place.js";

const DOSES = [0, 0.5, 1, 1.5, 2];

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
      <${Curve} at=${at} over="dose" lines=${effect} label=${`effect: ${doses[0].effect.name}, ${doses[0].effect.unit}`} />
      <${Curve} at=${at} over="dose" lines=${[{ name: "edited text", tone: "down", values: doses.map((one) => one.coherence.value) }]} label="coherence: nats a token, low is coherent" /></div>
    <table class="plain-table"><thead><tr><th class="n">dose</th><th class="n">effect</th><th class="n">random</th><th class="n">coherence</th><th class="n">repeats</th><th>text</th></tr></thead>
      <tbody>${doses.map((one) => html`<tr><td class="n">${num(one.dose)}</td><td class="n">${num(one.effect.value)}</td><td class="n">${"random" in one.controls ? num(one.controls.random.value) : ""}</td><td class="n">${num(one.coherence.value)}</td><td class="n">${repeated(one.repetition?.value)}</td><td class="said">${one.text.replaceAll("\n", "↵ ")}</td></tr>`)}</tbody></table>
    <p class="note">One prompt, so no interval: <code>microtome steer … --prompts FILE</code> measures on many. An effect that comes only where coherence is lost, or where the text repeats itself, is a broken model.</p>`;
}
