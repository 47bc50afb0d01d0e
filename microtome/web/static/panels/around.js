// What stands around a feature's firings: n-grams before and after, and where in documents it fires.
import { Asking } from "./asking.js";
import { Bar } from "./charts.js";
import { html } from "../lib/dom.js";
import { count, percent, times, tokenText } from "../lib/format.js";
import { at } from "../lib/place.js";

/** @param {{ card: Card }} props */
export function AroundPanel({ card }) {
  /** @param {Surroundings} answer */
  const show = (answer) => html`<div class="pair wide">${[["ends on it", answer.before], ["begins on it", answer.after]].map(([title, grams]) => html`<div><h3>${title}</h3><${Grams} grams=${grams} /></div>`)}</div>
    <h3>Where in documents</h3><${Positions} positions=${answer.positions} />`;
  return html`<${Asking} id="around" title="What stands around it" url=${`/api${at(card.index)}/f/${card.feature}/around?limit=6`} show=${show} />`;
}

/** @param {{ grams: readonly Gram[] }} props */
function Grams({ grams }) {
  if (grams.length === 0) return html`<p class="quiet">Nothing.</p>`;
  return html`<table class="mini"><thead><tr><th>text</th><th data-tip="share of its firings that stand so">share</th><th data-tip="how often it fires when these tokens occur">fires</th></tr></thead>
    <tbody>${grams.map((gram) => html`<tr data-tip=${`${count(gram.count)} firings · the tokens stand so ${count(gram.occurrences)} times`}>
      <td class="gram">${gram.pieces.map((piece, i) => html`<span class=${i === gram.centre ? "piece centre" : "piece"}>${tokenText(piece)}</span>`)}</td>
      <td>${percent(gram.share)}</td><td>${percent(gram.rate)}</td></tr>`)}</tbody></table>`;
}

/** @param {{ positions: readonly Stretch[] }} props */
function Positions({ positions }) {
  const densest = Math.max(...positions.map((one) => one.density), 1e-12);
  return html`<ol class="list">${positions.map((one) => html`<li data-tip=${`${count(one.count)} of ${count(one.tokens)} tokens`}>
    <span class="label">${one.high - one.low === 1 ? `token ${one.low}` : `tokens ${one.low} – ${one.high - 1}`}</span><${Bar} part=${one.density / densest} /><span class="value">${percent(one.density)}</span><span class="lift">${times(one.lift)}</span></li>`)}</ol>`;
}
