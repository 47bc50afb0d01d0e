// Which tokens a feature fires on.
import { Bar } from "./charts.js";
import { html } from "../lib/dom.js";
import { count, num, percent, tokenText } from "../lib/format.js";

/** @param {{ profile: TokenProfile }} props */
export function BestTokensPanel({ profile }) {
  return html`<section class="panel" id="tokens">
    <h2>Tokens it fires on</h2>
    <table class="mini">
      <thead><tr><th>token</th><th data-tip="share of its firings that are on this token">share</th><th data-tip="how often it fires when this token occurs">fires when it occurs</th><th data-tip="mean activation there">mean</th></tr></thead>
      <tbody>${profile.tokens.map((token) => html`<tr data-tip=${`${count(token.count)} firings · token ${token.token}`}>
        <td class="piece">${tokenText(token.piece)}</td><td>${percent(token.share)}</td>
        <td><${Bar} part=${token.rate} /><span>${percent(token.rate)}</span></td><td>${num(token.mean)}</td></tr>`)}</tbody>
    </table>
    <p class="note">${count(profile.distinct)} different tokens, entropy ${num(profile.entropy)} bits.</p>
  </section>`;
}
