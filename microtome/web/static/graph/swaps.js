// Missing edges: do tokens matter that the graph says do not? Each was swapped for others, and the next token measured.
import { Bar } from "../panels/charts.js";
import { ModelWait } from "../panels/modelwait.js";
import { ErrorPanel } from "../panels/states.js";
import { PAUSE, useAnswer } from "../lib/api.js";
import { html, useEffect } from "../lib/dom.js";
import { num, tokenText } from "../lib/format.js";
import { ReproduceFold } from "../panels/reproduce.js";
import { twin, useRun } from "./run.js";
import { select } from "./state.js";
import { Figures } from "./tested.js";

/** @typedef {{ position: number, token: string, influence: number, swapped_for: readonly string[], kl: readonly number[], change: readonly number[] }} Swap */
/** @typedef {{ target: string, positions: readonly Swap[], unimportant: readonly number[], important: readonly number[], suspects: readonly number[], results: readonly import("./tested.js").Figure[] }} Missing */

/** @param {{ view: import("./view.js").View }} props */
export function SwapsPanel({ view }) {
  const json = `${twin(view.name)}/tested`;
  const kept = useAnswer(json, undefined, PAUSE);
  const { busy, error, value, run } = useRun(`${twin(view.name)}/missing`);
  useEffect(() => void (value && kept.again()), [value]);
  const answer = /** @type {{ missing: Missing | null, reproduce: any } | null} */ (kept.value);
  if (!answer) return kept.error ? html`<${ErrorPanel} error=${kept.error} />` : null;
  const { missing } = answer;
  return html`<section class="panel" id="missing">
    <div class="bar-head"><h2>Missing edges ${missing && html`<span class="quiet">${missing.target}</span>`}</h2><button id="swap-run" disabled=${busy} onClick=${() => run({})}>${missing ? "Swap anew" : "Swap tokens now"}</button></div>
    ${!missing && html`<p class="quiet">A graph that misses nothing gives tokens that matter influence. Each token is swapped for four others of its sort, and the next token measured.</p>`}
    ${busy && html`<${ModelWait} url=${`${twin(view.name)}/model`} />`}
    ${error && html`<${ErrorPanel} error=${error} />`}
    ${missing && html`<${Swaps} missing=${missing} /><${ReproduceFold} recipe=${answer.reproduce} json=${json} />`}
  </section>`;
}

/** @param {{ missing: Missing }} props */
function Swaps({ missing }) {
  const mean = (/** @type {readonly number[]} */ values) => values.reduce((sum, one) => sum + one, 0) / Math.max(1, values.length);
  const rows = [...missing.positions].sort((a, b) => a.position - b.position);
  const most = Math.max(...rows.map((row) => mean(row.kl)), 1e-12);
  const largest = Math.max(...rows.map((row) => row.influence), 1e-12);
  const role = (/** @type {number} */ at) => (missing.suspects.includes(at) ? "matters more than the graph says" : missing.unimportant.includes(at) ? "should not matter" : missing.important.includes(at) ? "should matter" : "");
  return html`<div class="pair"><table class="mini swaps"><thead><tr><th>token</th><th data-tip="of the token, along all paths of the graph">influence</th><th data-tip="KL of the next token when it is swapped, mean over swaps">mean KL</th><th></th></tr></thead>
    <tbody>${rows.map((row) => html`<tr class=${missing.suspects.includes(row.position) ? "suspect" : ""} data-tip=${`swapped for ${row.swapped_for.map(tokenText).join(", ")}`}>
      <td><button class="plain" onClick=${() => select(`E@${row.position}`)}><span class="piece">${tokenText(row.token)}</span></button> <span class="quiet">${row.position}</span></td>
      <td><${Bar} part=${row.influence / largest} tone="up" /> ${num(row.influence)}</td><td><${Bar} part=${mean(row.kl) / most} /> ${num(mean(row.kl))}</td><td class="quiet">${role(row.position)}</td></tr>`)}</tbody></table>
    <div><${Figures} results=${missing.results} /><p class="note">ranks: do influence and measured KL order the tokens alike. ratio: mean KL of tokens that should not matter over that of those that should: 0 is right, 1 says nothing.</p></div></div>`;
}
