// Every feature that fires on one token of a document.
import { Bar } from "./charts.js";
import { ReproduceFold } from "./reproduce.js";
import { ErrorPanel, Loading } from "./states.js";
import { useAnswer } from "../lib/api.js";
import { html } from "../lib/dom.js";
import { count, num, percent, tokenText } from "../lib/format.js";
import { at, setQuery } from "../lib/place.js";

/** @param {{ index: string, doc: number, offset: number, chosen: number | null }} props */
export function TokenPanel({ index, doc, offset, chosen }) {
  const json = `/api${at(index)}/d/${doc}/t/${offset}`;
  const { value, error } = useAnswer(json);
  const answer = /** @type {(TokenView & { reproduce: any }) | null} */ (value);
  const token = answer && answer.offset === offset ? answer : null;
  return html`<section class="panel" id="token">
    <div class="bar-head"><h2>Token ${count(offset)}${token && html` <span class="piece">${tokenText(token.piece)}</span>`}</h2>
      <button class="plain" onClick=${() => setQuery({ t: null })} aria-label="close">close</button></div>
    ${error && html`<${ErrorPanel} error=${error} />`}
    ${!token && !error && html`<${Loading} lines=${3} />`}
    ${token && !token.kept && html`<p class="note">This token takes no part in the statistics: special, template, or an attention sink.</p>`}
    ${token && token.features.length === 0 && html`<p class="quiet">No feature fires on it.</p>`}
    <ol class="list wide">${token?.features.map((one) => html`<li class=${one.feature === chosen ? "on" : ""} data-tip=${`activation ${num(one.activation)}, ${one.percentile === null ? "" : `stronger than ${percent(one.percentile)} of its firings, `}density ${percent(one.density)}`}>
      <a href=${`${at(index)}/f/${one.feature}`}><span class="number">${one.feature}</span> <span class="label">${one.label}</span></a>
      <${Bar} part=${one.share_of_max} /><span class="value">${percent(one.share_of_max)}</span>
      <button class="plain" aria-label=${`paint feature ${one.feature}`} onClick=${() => setQuery({ f: one.feature })}>paint</button></li>`)}</ol>
    ${token && html`<${ReproduceFold} recipe=${token.reproduce} json=${json} />`}
  </section>`;
}
