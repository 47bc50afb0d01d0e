// Examples: the strongest, and one set from each slice of equally many firings, so that the weak end is seen as well.
import { ErrorPanel, Loading } from "./states.js";
import { Tokens } from "./tokens.js";
import { useAnswer } from "../lib/api.js";
import { html, useState } from "../lib/dom.js";
import { count, num } from "../lib/format.js";
import { address, at, place, setQuery } from "../lib/place.js";

const NEAR = 14;
const WHAT = /** @type {Record<string, string>} */ ({ split: " documents", role: " turns", corpus_label: "" });

/** @param {{ card: Card }} props */
export function ExamplesPanel({ card }) {
  const { query } = place.value;
  const slice = query.get("slice") ?? "all";
  const whole = query.get("wide") === "1";
  const breaks = query.get("breaks") === "1";
  const part = query.get("in");
  const strata = card.strata;
  const options = [["all", "All"], ["top", "Strongest"], ...strata.map((stratum, i) => [String(stratum.index), i > 0 && i < strata.length - 1 ? String(i + 1) : sliceName(i, strata.length)])];
  const shown = strata.filter((stratum) => slice === "all" || slice === String(stratum.index));
  if (card.statistics.count === 0) {
    return html`<section id="examples"><h2>Examples</h2><p class="quiet">It never fires on this corpus, so there are none. A dead feature: nothing to read here.</p></section>`;
  }
  return html`<section id="examples">
    <div class="bar-head">
      <h2>Examples</h2>
      <span class="choice" role="group" aria-label="slice">${options.map(([key, name]) => html`<button aria-pressed=${slice === key} onClick=${() => setQuery({ slice: key === "all" ? null : key })}>${name}</button>`)}</span>
      <${PartChoice} card=${card} part=${part} />
      <span class="choice" role="group" aria-label="layout">
        <button aria-pressed=${whole} onClick=${() => setQuery({ wide: whole ? null : 1 })} data-tip="show the whole stored window">wide</button>
        <button aria-pressed=${breaks} onClick=${() => setQuery({ breaks: breaks ? null : 1 })} data-tip="break lines where the text does">line breaks</button>
      </span>
    </div>
    ${(slice === "all" || slice === "top") && part && html`<${PartGroup} card=${card} part=${part} whole=${whole} breaks=${breaks} />`}
    ${(slice === "all" || slice === "top") && !part && html`<${Group} key=${`top${card.feature}`} card=${card} title="Strongest" range="one a document, near-duplicates collapsed" windows=${card.top} whole=${whole} breaks=${breaks} first=${slice === "top" ? 100 : 8} />`}
    ${shown.map((stratum) => html`<${Group} key=${`${stratum.index}-${card.feature}`} card=${card} title=${sliceName(strata.indexOf(stratum), strata.length)}
      range=${`activation ${num(stratum.low)} to ${num(stratum.high)} · ${count(stratum.count)} firings`} windows=${stratum.examples} whole=${whole} breaks=${breaks} first=${slice === "all" ? 4 : 100} />`)}
  </section>`;
}

/** Which part of the corpus the strongest examples are from. @param {{ card: Card, part: string | null }} props */
function PartChoice({ card, part }) {
  const kinds = ["split", "role", "corpus_label"].filter((kind) => (card.breakdowns[kind]?.length ?? 0) > 1);
  if (kinds.length === 0) return null;
  return html`<label class="within">in <select aria-label="part of the corpus" value=${part ?? ""} onChange=${(/** @type {any} */ event) => setQuery({ in: event.currentTarget.value, slice: null })}>
    <option value="">all documents</option>
    ${kinds.map((kind) => card.breakdowns[kind].filter((one) => one.count > 0 && one.name).map((one) => html`<option value=${`${kind}:${one.name}`}>${one.name}${WHAT[kind]}</option>`))}
  </select></label>`;
}

/** The strongest examples of one part of the corpus, asked for when chosen. @param {{ card: Card, part: string, whole: boolean, breaks: boolean }} props */
function PartGroup({ card, part, whole, breaks }) {
  const cut = part.indexOf(":");
  const [kind, name] = [part.slice(0, cut), part.slice(cut + 1)];
  const { value, error } = useAnswer(address(`/api${at(card.index)}/f/${card.feature}/examples`, { [kind]: name }));
  const found = /** @type {{ examples: readonly ExampleWindow[] } | null} */ (value);
  if (error) return html`<${ErrorPanel} error=${error} />`;
  if (!found) return html`<${Loading} lines=${4} />`;
  return html`<${Group} key=${`${part}${card.feature}`} card=${card} title=${`Strongest in ${name}`} range="one a document, near-duplicates collapsed" windows=${found.examples} whole=${whole} breaks=${breaks} first=${8} />`;
}

/** @param {number} i @param {number} n strongest slice first */
function sliceName(i, n) {
  if (n === 1) return "Every strength";
  if (i === 0) return "Top slice";
  return i === n - 1 ? "Weakest slice" : `Slice ${i + 1}`;
}

/** @param {{ card: Card, title: string, range: string, windows: readonly ExampleWindow[], whole: boolean, breaks: boolean, first: number }} props */
function Group({ card, title, range, windows, whole, breaks, first }) {
  const [all, setAll] = useState(false);
  const visible = all ? windows : windows.slice(0, first);
  return html`<div class="group">
    <h3>${title} <span class="quiet">${range}</span></h3>
    ${windows.length === 0 && html`<p class="quiet">No example was stored.</p>`}
    <ol>${visible.map((window) => html`<${Example} card=${card} window=${window} whole=${whole} breaks=${breaks} />`)}</ol>
    ${visible.length < windows.length && html`<button class="plain" onClick=${() => setAll(true)}>${windows.length - visible.length} more</button>`}
  </div>`;
}

/** @param {{ card: Card, window: ExampleWindow, whole: boolean, breaks: boolean }} props */
function Example({ card, window, whole, breaks }) {
  const from = whole ? 0 : Math.max(0, window.peak - NEAR);
  const to = whole ? window.pieces.length : Math.min(window.pieces.length, window.peak + NEAR + 1);
  const href = address(`${at(card.index)}/d/${window.doc}`, { f: card.feature, t: window.offset + window.peak });
  const more = window.duplicates > 0 ? ` · ${window.duplicates} near-identical left out` : "";
  return html`<li class="example">
    <span class="strength" data-tip="activation at the underlined token">${num(window.activation)}</span>
    <div class="text"><${Tokens} pieces=${window.pieces} activations=${window.activations} max=${card.statistics.max} peak=${window.peak} breaks=${breaks} from=${from} to=${to} trim=${true} /></div>
    <a class="source" href=${href} data-tip=${`document ${window.doc}, ${window.split}${window.role === "text" ? "" : `, ${window.role}`}${more}`}>${window.title || `document ${window.doc}`}${window.corpus_label && html` <span class="tag">${window.corpus_label}</span>`}</a>
  </li>`;
}
