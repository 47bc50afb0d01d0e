// Many prompts on one feature: a line a prompt, held against everything in the store.
import { Tokens, tokenTip } from "./tokens.js";
import { html } from "../lib/dom.js";
import { count, num, percent, tokenText } from "../lib/format.js";

/** @param {{ answer: TextTests }} props */
export function PromptTable({ answer }) {
  return html`<div class="answer" aria-live="polite">
    <table class="plain-table prompts">
      <thead><tr><th>Prompt</th><th class="n" data-tip="largest activation">max</th><th class="n" data-tip="of the largest activation in the corpus">% of max</th><th class="n" data-tip="share of its firings in the corpus that are weaker">percentile</th><th class="n" data-tip=${`place among its ${count(answer.store_count)} firings in the corpus`}>rank</th><th>on</th></tr></thead>
      <tbody>${answer.tests.map((one) => html`<${Line} one=${one} />`)}</tbody>
    </table>
    ${answer.above_store > 0 && html`<p class="flag">${count(answer.above_store)} of ${count(answer.tests.length)} above 100 %: stronger than anything in the corpus. Its examples are too narrow.</p>`}
    <p class="note">100 % is ${num(answer.store_max)}, the largest of ${count(answer.store_count)} firings in the corpus.</p>
  </div>`;
}

/** @param {{ one: TextTest }} props */
function Line({ one }) {
  const fires = one.max > 0;
  const at = one.peak;
  return html`<tr class=${one.above_store ? "above" : ""}>
    <td><${Tokens} pieces=${one.pieces} activations=${one.shares_of_max} peak=${at} kept=${one.kept} breaks=${true}
      tip=${(/** @type {number} */ i) => (one.activations[i] > 0 ? tokenTip(one.pieces[i], one.activations[i], one.shares_of_max[i], one.percentiles[i]) : undefined)} /></td>
    ${fires
      ? html`<td class="n">${num(one.max)}</td><td class="n"><b>${percent(one.shares_of_max[at])}</b></td><td class="n">${percent(one.percentiles[at])}</td><td class="n">${count(one.ranks[at])}</td><td><span class="piece">${tokenText(one.pieces[at])}</span></td>`
      : html`<td class="n">0</td><td class="n">0 %</td><td class="n">–</td><td class="n">–</td><td class="quiet">silent</td>`}
  </tr>`;
}
