// Features by prompts: those that fire on all of the first and on none of the second.
import { Bar } from "./charts.js";
import { HitHeads } from "./hitheads.js";
import { ModelWait } from "./modelwait.js";
import { Reproduce } from "./reproduce.js";
import { Empty, ErrorPanel } from "./states.js";
import { fitting } from "./textbox.js";
import { askedPrompts, TwoBoxes } from "./twoboxes.js";
import { PAUSE, useAnswer } from "../lib/api.js";
import { html } from "../lib/dom.js";
import { count, percent, tokenText } from "../lib/format.js";
import { address, at, place, setQuery } from "../lib/place.js";

/** @param {{ index: string }} props */
export function FindByPrompts({ index }) {
  const { query } = place.value;
  const { positive, negative } = askedPrompts();
  const misses = Math.min(Number(query.get("misses") ?? 0), Math.max(0, positive.length - 1));
  const allow = Number(query.get("allow") ?? 0);
  const url = `/api${at(index)}/prompts`;
  const isAsked = positive.length > 0;
  const { value, error, loading, again } = useAnswer(isAsked ? url : null, { positive, negative, misses, allow }, PAUSE);
  const found = /** @type {(PromptSearch & { reproduce: any }) | null} */ (isAsked ? value : null);
  /** @param {string} name @param {number} now @param {readonly [number, string][]} choices */
  const choice = (name, now, choices) => html`<span class="choice" role="group" aria-label=${name}>${choices.map(([key, text]) => html`<button aria-pressed=${now === key} onClick=${() => setQuery({ [name]: key || null })}>${text}</button>`)}</span>`;
  return html`<${TwoBoxes} names=${["fires on all of these", "and on none of these"]} hints=${["The ship left the harbour.\nA sailor on deck", "The car left the garage."]} least=${[1, 0]} needs="The first box needs a prompt." again=${again}>
      ${isAsked && html`<p class="ways">${positive.length > 1 && choice("misses", misses, [[0, "on all"], [1, "on all but one"]])} ${negative.length > 0 && choice("allow", allow, [[0, "silent on the others"], [0.1, "below 10 % there"], [0.5, "below 50 %"]])}</p>`}
      ${loading && isAsked && html`<${ModelWait} index=${index} />`}
    </${TwoBoxes}>
    ${error && html`<${ErrorPanel} error=${error} again=${again} />`}
    ${found && html`<div class="bar-head"><h2>${count(found.n_left)} features</h2><span class="quiet">${count(found.n_active)} fire on some of the prompts, ${count(found.n_common)} on all${found.misses ? ` but ${found.misses}` : ""}, ${count(found.n_left)} of them not on the others</span></div>`}
    ${found && found.hits.length === 0 && html`<${Empty} title="No feature does both"><p>Allow a miss, forgive weak answers, or take away a prompt.</p></${Empty}>`}
    ${found && found.hits.length > 0 && html`<${HitHeads} value=${found.negative.length ? "the others" : ""} /><ol class="hits">${found.hits.map((one) => html`<li>
      <a href=${address(`${at(index)}/f/${one.feature}`, { test: fitting([...found.positive, ...found.negative]) })}><span class="number">${one.feature}</span> <span class="label">${one.label}</span></a>
      <span class="pieces">${[...new Set(one.peaks)].filter(Boolean).slice(0, 3).map((piece) => html`<span class="piece">${tokenText(piece)}</span> `)}</span>
      <span class="meter-value" data-tip=${one.positive.map((share) => percent(share)).join(" · ")}><${Bar} part=${one.worst} /> ${percent(one.worst)} of max</span>
      <span class="value" data-tip="its strongest answer to the others">${found.negative.length ? percent(one.against) : ""}</span>
      <span class="quiet value" data-tip="share of the corpus on which it fires">${percent(one.density)}</span></li>`)}</ol>
      <p class="note">The bar is the weakest answer that counts. Ranked by that times ln((1 + documents) / (1 + documents it fires in)).</p>
      <${Reproduce} recipe=${found.reproduce} json=${address(url, { positive, negative, misses: misses || null, allow: allow || null })} />`}`;
}
