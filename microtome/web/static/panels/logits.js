// The tokens that a feature's direction raises and lowers most, directly.
import { Bar } from "./charts.js";
import { html } from "../lib/dom.js";
import { num, tokenText } from "../lib/format.js";

/** @param {{ logits: Logits }} props */
export function LogitsPanel({ logits }) {
  const widest = Math.max(...[...logits.top, ...logits.bottom].map((entry) => Math.abs(entry.logit)), 1e-9);
  /** @param {LogitEntry} entry @param {string} tone */
  const row = (entry, tone) => html`<li data-tip=${`token ${entry.token}`}>
    <span class="piece">${tokenText(entry.piece)}</span><${Bar} part=${Math.abs(entry.logit) / widest} tone=${tone} /><span class="value">${num(entry.logit)}</span></li>`;
  return html`<section class="panel" id="logits">
    <h2>Direct effect on the output</h2>
    <div class="pair">
      <div><h3>raises</h3><ol class="list">${logits.top.map((entry) => row(entry, "up"))}</ol></div>
      <div><h3>lowers</h3><ol class="list">${logits.bottom.map((entry) => row(entry, "down"))}</ol></div>
    </div>
    <p class="note">Unembedding · decoder direction at unit length, through the final norm's gain.</p>
  </section>`;
}
