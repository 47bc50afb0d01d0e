// Features whose decoder directions are close.
import { Bar } from "./charts.js";
import { html } from "../lib/dom.js";
import { num, percent } from "../lib/format.js";
import { address, at } from "../lib/place.js";

/** @param {{ index: string, neighbours: readonly Neighbour[], test: string | null }} props */
export function NeighboursPanel({ index, neighbours, test }) {
  return html`<section class="panel" id="neighbours">
    <h2>Nearest directions</h2>
    ${neighbours.length === 0 && html`<p class="quiet">None stored.</p>`}
    <ol class="list wide">
      ${neighbours.map((near) => html`<li data-tip=${`density ${percent(near.density)}`}>
        <a href=${address(`${at(index)}/f/${near.feature}`, { test })}><span class="number">${near.feature}</span> <span class="label">${near.label}</span></a>
        <${Bar} part=${Math.abs(near.cosine)} tone=${near.cosine < 0 ? "down" : "up"} /><span class="value">${num(near.cosine)}</span></li>`)}
    </ol>
    <p class="note">Cosine of the decoder directions.</p>
  </section>`;
}
