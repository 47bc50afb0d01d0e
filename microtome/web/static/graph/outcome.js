// What an intervention did: the target's change as predicted and as measured, the next tokens, and how the text goes on.
import { Bar } from "../panels/charts.js";
import { ReproduceFold } from "../panels/reproduce.js";
import { html } from "../lib/dom.js";
import { num, percent, tokenText } from "../lib/format.js";
import { signed } from "./view.js";

/** @typedef {{ token: number, piece: string, before: number, after: number }} Shift */
/**
 * @typedef {object} Found
 * @property {string} target
 * @property {readonly string[]} nodes
 * @property {number} clean
 * @property {number} predicted
 * @property {number} measured
 * @property {number} kl
 * @property {readonly Shift[]} shifts
 * @property {string | null} unedited
 * @property {string | null} edited
 * @property {{ python: string, shell: string }} reproduce
 */

/** @param {{ found: Found, view: import("./view.js").View, json: string }} props */
export function Outcome({ found, view, json }) {
  const widest = Math.max(Math.abs(found.predicted), Math.abs(found.measured), 1e-12);
  /** @param {string} name @param {number} value */
  const line = (name, value) => html`<tr><td>${name}</td><td><${Bar} part=${Math.abs(value) / widest} tone=${value < 0 ? "down" : "up"} /></td><td id=${name}><b>${signed(value)}</b></td></tr>`;
  return html`<div class="outcome" role="status">
    <p>${found.nodes.length === 1 ? found.nodes[0] : `${found.nodes.length} features`} changed; <b>${found.target}</b> was ${num(found.clean)} and changed by</p>
    <table class="mini change"><tbody>${line("predicted", found.predicted)}${line("measured", found.measured)}</tbody></table>
    <p class="quiet">KL of the next token ${num(found.kl)} nats${Math.sign(found.predicted) * Math.sign(found.measured) < 0 ? " · the graph has the sign wrong" : ""}</p>
    <table class="mini shifts"><thead><tr><th>next token</th><th>before</th><th>after</th></tr></thead>
      <tbody>${found.shifts.slice(0, 8).map((shift) => html`<tr><td><span class="piece">${tokenText(shift.piece)}</span></td><td>${percent(shift.before)}</td><td>${percent(shift.after)}</td></tr>`)}</tbody></table>
    ${found.edited !== null && html`<div class="pair continued"><div><h3>without</h3><p class="strip"><span class="quiet">${view.tokens.slice(-4).join("")}</span>${found.unedited}</p></div>
      <div><h3>with the change</h3><p class="strip"><span class="quiet">${view.tokens.slice(-4).join("")}</span>${found.edited}</p></div></div>`}
    <${ReproduceFold} recipe=${found.reproduce} json=${json} /></div>`;
}
