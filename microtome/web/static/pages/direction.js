// One direction: what it points to, what was measured of it and what it does not show, where a corpus lies along it, and what it resembles.
import { Bar } from "../panels/charts.js";
import { Curve } from "../panels/curve.js";
import { MeasuredPanel, MorePanel, written } from "../panels/measured.js";
import { Reproduce } from "../panels/reproduce.js";
import { ErrorPanel, Loading } from "../panels/states.js";
import { useAnswer } from "../lib/api.js";
import { html, useEffect } from "../lib/dom.js";
import { count, num, tokenText } from "../lib/format.js";
import { address, at, directionAt } from "../lib/place.js";

const SHOWN = [0, 1, 5, 10, 25, 50, 75, 90, 95, 99, 100];

/** @param {{ name: string }} props */
export function DirectionPage({ name }) {
  const json = `/api${directionAt(name)}`;
  const { value, error, again } = useAnswer(json);
  const found = /** @type {{ card: DirectionCard, indexes: readonly string[], steer: string, reproduce: any } | null} */ (value);
  useEffect(() => void (document.title = `${name} · direction`), [name]);
  if (error) return html`<${ErrorPanel} error=${error} again=${again} />`;
  if (!found) return html`<${Loading} lines=${8} />`;
  const { card, indexes } = found;
  const { measured, provenance } = card;
  const facts = [["points", card.sign], ["against", card.reference], ["read at", card.site], ["length", `${num(card.norm)} (${card.unit})`], ["width", count(card.width)], ["model", provenance.model ?? card.model ?? "any of its width"], ["its own name", card.title === name ? "" : card.title]];
  return html`<header class="title"><h1>${name}</h1><p class="quiet">${provenance.recipe ? `a direction by the recipe “${provenance.recipe}”` : "a direction"} at ${card.site}</p></header>
    ${provenance.quantised && html`<p class="remark-line">The model's weights are quantised (${provenance.quantised}): every figure here is of that model, not of the full-precision one.</p>`}
    ${measured && measured.notes.length > 0 && html`<section class="panel" id="notes"><h2>What it does not show</h2><ul class="plain-list">${measured.notes.map((note) => html`<li>${note}</li>`)}</ul></section>`}
    ${measured ? html`<${MeasuredPanel} id="measured" title="Measured when it was made" results=${measured.results} />
      ${measured.together.length > 0 && html`<${MeasuredPanel} id="together" title="Measured of all that were made with it" results=${measured.together} />`}` : html`<p class="note">It was saved without what was measured: make it again with <code>microtome direction</code> to see that here.</p>`}
    <div class="columns even">
      <section class="panel" id="about"><h2>The vector</h2><dl class="facts">${facts.filter(([, text]) => text).map(([term, text]) => html`<dt>${term}</dt><dd>${text}</dd>`)}</dl>
        ${indexes.length > 0
          ? html`<p class="note">Steer with it: ${indexes.map((index, i) => html`${i > 0 && " · "}<a href=${address(`${at(index)}/steer`, { edits: `add ${name}=1` })}>${index}</a>`)}</p>`
          : html`<p class="note"><code>${found.steer}</code></p>`}</section>
      ${measured && measured.raises.length > 0 && html`<section class="panel" id="tokens"><h2>Direct effect on the output</h2>
        <div class="pair"><div><h3>raises</h3><p class="token-row">${measured.raises.map((piece) => html`<span class="piece">${tokenText(piece)}</span> `)}</p></div>
          <div><h3>lowers</h3><p class="token-row">${measured.lowers.map((piece) => html`<span class="piece">${tokenText(piece)}</span> `)}</p></div></div>
        <p class="note">Unembedding · direction, through the final norm's gain: what it would do if nothing came after it.</p></section>`}
      ${card.calibration && html`<${Percentiles} calibration=${card.calibration} />`}
      ${card.others.length > 0 && html`<${Others} others=${card.others} width=${card.width} />`}
      <section class="panel" id="sources"><h2>Made from</h2><dl class="facts">${Object.entries(provenance).map(([term, fact]) => html`<dt>${term.replaceAll("_", " ")}</dt><dd>${written(fact)}</dd>`)}<dt>fingerprint</dt><dd>${card.fingerprint}</dd><dt>artifact id</dt><dd>${card.id}</dd></dl></section>
    </div>
    ${measured && html`<${MorePanel} more=${measured.more} />`}
    <${Reproduce} recipe=${found.reproduce} json=${json} />`;
}

/** @param {{ calibration: Calibration }} props */
function Percentiles({ calibration }) {
  const values = SHOWN.map((p) => calibration.percentiles[p]);
  return html`<section class="panel" id="calibration"><h2>Where a corpus lies along it</h2>
    <${Curve} at=${calibration.percentiles.map((_, p) => p)} over="percentile" lines=${[{ name: "coordinate", tone: "up", values: calibration.percentiles }]} fromZero=${false} label="coordinate along the unit vector, by percentile" />
    <div class="scroll"><table class="mini"><thead><tr>${SHOWN.map((p) => html`<th>p${p}</th>`)}</tr></thead><tbody><tr>${values.map((value) => html`<td>${num(value)}</td>`)}</tr></tbody></table></div>
    <p class="note">${count(calibration.n)} tokens of ${calibration.source}. Strengths and caps may be given so: <code>p75</code>.</p></section>`;
}

/** @param {{ others: readonly Likeness[], width: number }} props */
function Others({ others, width }) {
  return html`<section class="panel" id="others"><h2>Other directions of its model</h2>
    <ol class="list">${others.map((other) => html`<li><a href=${directionAt(other.name)}>${other.name}</a><span class="quiet">${other.site}</span><${Bar} part=${Math.abs(other.cosine)} tone=${other.cosine < 0 ? "down" : "up"} /><span class="value">${num(other.cosine)}</span></li>`)}</ol>
    <p class="note">Cosine; two random vectors of this width have about ±${num(1 / Math.sqrt(width))}.</p></section>`;
}
