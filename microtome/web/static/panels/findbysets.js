// Features by two small sets of texts: the AUC of each, with an interval and what shuffled labels would give.
import { ModelWait } from "./modelwait.js";
import { Reproduce } from "./reproduce.js";
import { Empty, ErrorPanel } from "./states.js";
import { fitting } from "./textbox.js";
import { askedPrompts, TwoBoxes } from "./twoboxes.js";
import { PAUSE, useAnswer } from "../lib/api.js";
import { html } from "../lib/dom.js";
import { count, num, percent } from "../lib/format.js";
import { address, at, place, setQuery } from "../lib/place.js";

/** @param {{ index: string }} props */
export function FindBySets({ index }) {
  const { positive, negative } = askedPrompts();
  const pool = place.value.query.get("pool") ?? "max";
  const url = `/api${at(index)}/separate`;
  const isAsked = positive.length > 1 && negative.length > 1;
  const { value, error, loading, again } = useAnswer(isAsked ? url : null, { positive, negative, pool }, PAUSE);
  const found = /** @type {(Separation & { reproduce: any }) | null} */ (isAsked ? value : null);
  return html`<${TwoBoxes} names=${["these texts", "against these"]} hints=${["Two texts or more, a line each. Ten of each tell more.", "As many that differ in one thing."]} least=${[2, 2]} needs="Each side needs two texts or more." again=${again}>
      ${isAsked && html`<p class="ways"><span class="choice" role="group" aria-label="value of a text">${["max", "mean"].map((key) => html`<button aria-pressed=${pool === key} onClick=${() => setQuery({ pool: key === "max" ? null : key })}>${key === "max" ? "by the strongest token" : "by the mean over the text"}</button>`)}</span></p>`}
      ${loading && isAsked && html`<${ModelWait} index=${index} />`}
    </${TwoBoxes}>
    ${error && html`<${ErrorPanel} error=${error} again=${again} />`}
    ${found && html`<div class="bar-head"><h2>${count(found.n_significant)} features tell them apart</h2><span class="quiet">p ≤ 0.05 among ${count(found.n_tested)} that were tried</span></div>`}
    ${found && found.hits.length === 0 && html`<${Empty} title="Nothing fires"><p>No feature responds to any of the texts.</p></${Empty}>`}
    ${found && found.hits.length > 0 && html`<table class="plain-table"><thead><tr><th>Feature</th><th class="n" data-tip="chance that one of these texts has the larger value than one of the others">AUC</th><th class="n" data-tip="score interval (Newcombe 2006): wide with few texts, also where none is on the wrong side">95 % interval</th><th class="n" data-tip="share of the shuffles in which the best of all features does as well">p</th><th class="n" data-tip="mean over the texts, of its maximum in the corpus">these</th><th class="n">against</th><th class="n">density</th></tr></thead>
      <tbody>${found.hits.map((one) => html`<tr class=${one.p <= 0.05 ? "" : "quiet"}><td><a href=${address(`${at(index)}/f/${one.feature}`, { test: fitting([...positive, ...negative]) })}><span class="number">${one.feature}</span> ${one.label}</a></td>
        <td class="n"><b>${one.auc.toFixed(3)}</b></td><td class="n">${one.low.toFixed(2)} – ${one.high.toFixed(2)}</td><td class="n">${num(one.p)}</td><td class="n">${percent(one.positive)}</td><td class="n">${percent(one.negative)}</td><td class="n">${percent(one.density)}</td></tr>`)}</tbody></table>
      <p class="note">p counts, of ${count(found.shuffles)} shuffles of the labels, those in which the best of all ${count(found.n_tested)} features is as far from 0.5: it is corrected for having tried them all. 95 % of the shuffles stay within ${(1 - found.null_95).toFixed(3)} – ${found.null_95.toFixed(3)}. The intervals are each feature's own and do not know that it was picked.</p>
      <${Reproduce} recipe=${found.reproduce} json=${address(url, { positive, negative, pool: pool === "max" ? null : pool })} />`}`;
}
