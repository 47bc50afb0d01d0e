// How often a feature fires in each part of the corpus, against how often it fires at all.
import { Bar } from "./charts.js";
import { html } from "../lib/dom.js";
import { count, percent, times } from "../lib/format.js";

const NAMES = /** @type {Record<string, string>} */ ({ role: "By role", corpus_label: "By corpus label", split: "By split" });

/** @param {{ breakdowns: Record<string, readonly Breakdown[]> }} props */
export function BreakdownsPanel({ breakdowns }) {
  const kinds = Object.entries(breakdowns).filter(([, parts]) => parts.length > 1);
  if (kinds.length === 0) return null;
  return html`<section class="panel" id="breakdowns">
    <h2>Where in the corpus</h2>
    ${kinds.map(([kind, parts]) => {
      const densest = Math.max(...parts.map((part) => part.density), 1e-12);
      return html`<h3>${NAMES[kind] ?? kind}</h3>
        <ol class="list">${parts.map((part) => html`<li data-tip=${`${count(part.count)} of ${count(part.tokens)} tokens`}>
          <span class="label">${part.name || "(none)"}</span><${Bar} part=${part.density / densest} /><span class="value">${percent(part.density)}</span><span class="lift">${times(part.lift)}</span></li>`)}</ol>`;
    })}
    <p class="note">Density there, and as a factor of its density everywhere.</p>
  </section>`;
}
