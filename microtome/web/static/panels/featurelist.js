// A list of features with figures: each a link to its page, with its site where the index has several.
import { html } from "../lib/dom.js";
import { percent } from "../lib/format.js";
import { address, at, place } from "../lib/place.js";

/**
 * @param {{
 *   index: string, features: readonly { feature: number, site: string, number: number, label: string, density?: number }[], site?: string,
 *   heads: readonly (readonly [string, string])[], values: (one: any) => readonly string[], empty?: string,
 * }} props `heads` names the figures and says what they are; `site` is left out of the rows that have it
 */
export function FeatureList({ index, features, site, heads, values, empty = "None." }) {
  if (features.length === 0) return html`<p class="quiet">${empty}</p>`;
  const test = place.value.query.get("test");
  return html`<table class="mini features">
    <thead><tr><th>feature</th>${heads.map(([name, tip]) => html`<th data-tip=${tip}>${name}</th>`)}</tr></thead>
    <tbody>${features.map((one) => html`<tr>
      <td class="named" data-tip=${`${one.label} · ${one.site}${one.density === undefined ? "" : ` · density ${percent(one.density)}`}`}>
        <a href=${address(`${at(index)}/f/${one.feature}`, { test })}><span class="number">${one.site === site ? one.number : `${one.site}/${one.number}`}</span> <span class="label">${one.label}</span></a></td>
      ${values(one).map((value) => html`<td>${value}</td>`)}</tr>`)}</tbody>
  </table>`;
}
