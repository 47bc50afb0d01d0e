// How well the model predicts where a feature fires, beside every token of the store.
import { Asking } from "./asking.js";
import { html } from "../lib/dom.js";
import { count, num } from "../lib/format.js";
import { at } from "../lib/place.js";

/** @param {{ card: Card }} props */
export function LossPanel({ card }) {
  /** @param {{ loss: FeatureLoss | null, command: string }} answer */
  const show = ({ loss, command }) => (loss ? html`<${Losses} loss=${loss} />` : html`<p class="quiet">Not measured yet: <code>${command}</code></p>`);
  return html`<${Asking} id="loss" title="Loss where it fires" url=${`/api${at(card.index)}/f/${card.feature}/loss`} show=${show} />`;
}

/** @param {{ loss: FeatureLoss }} props */
function Losses({ loss }) {
  /** @param {MeanLoss | null} one */
  const cell = (one) => (one ? html`<td data-tip=${`95 % interval ${num(one.low)} to ${num(one.high)} · ${count(one.n)} tokens`}>${num(one.mean)}</td>` : html`<td>–</td>`);
  return html`<table class="mini"><thead><tr><th>activation</th><th data-tip="−log p of the token that it fires on">the token itself</th><th data-tip="−log p of the token that follows">the next one</th></tr></thead><tbody>
      <tr><td>all firings</td>${cell(loss.here)}${cell(loss.after)}</tr>
      ${loss.slices.map((slice) => html`<tr><td>${num(slice.low)} to ${num(slice.high)}</td>${cell(slice.here)}${cell(slice.after)}</tr>`)}
      <tr class="baseline"><td>every token of the store</td><td>${num(loss.store_here)}</td><td>${num(loss.store_after)}</td></tr></tbody></table>
    <p class="note">Cross-entropy in nats; higher is more of a surprise.</p>`;
}
