// The feature card beside the graph, from the feature index of the dictionary, where the workspace has one.
import { Asking } from "../panels/asking.js";
import { Bar } from "../panels/charts.js";
import { FeatureList } from "../panels/featurelist.js";
import { LogitsPanel } from "../panels/logits.js";
import { ErrorPanel, Loading } from "../panels/states.js";
import { Tokens } from "../panels/tokens.js";
import { PAUSE, useAnswer } from "../lib/api.js";
import { html } from "../lib/dom.js";
import { num, percent, tokenText } from "../lib/format.js";
import { address, at } from "../lib/place.js";

const EXAMPLES = 6;
const NEAR = 9;

/** @param {{ view: import("./view.js").View, node: import("./view.js").Node }} props */
export function CardPanel({ view, node }) {
  const cards = node.kind === "feature" ? view.cards[node.layer] : undefined;
  const id = cards ? cards.first + node.feature : -1;
  const { value, error } = useAnswer(cards ? `/api${at(cards.index)}/f/${id}` : null, undefined, PAUSE);
  if (node.kind !== "feature") return null;
  if (!cards) {
    return html`<section class="panel" id="card"><h2>Examples</h2>
      <p class="quiet">No feature index of this layer's dictionary is in the workspace; <code>microtome index</code> makes one, and this panel then shows what the feature responds to.</p></section>`;
  }
  const card = /** @type {Card | null} */ (value && /** @type {Card} */ (value).feature === id ? value : null);
  if (error) return html`<${ErrorPanel} error=${error} />`;
  if (!card) return html`<section class="panel" id="card"><${Loading} lines=${5} /></section>`;
  const { index } = cards;
  return html`<section class="panel" id="card">
      <div class="bar-head"><h2><a href=${`${at(index)}/f/${id}`}>${card.label.text}</a></h2></div>
      <p class="quiet">feature ${card.number} of ${card.site} · on ${percent(card.statistics.density)} of tokens · here <b>${num(node.activation)}</b>, largest in the corpus ${num(card.statistics.max)}
        <${Bar} part=${card.statistics.max > 0 ? node.activation / card.statistics.max : 0} /></p>
      <ol class="glimpses">${card.top.slice(0, EXAMPLES).map((window) => html`<li>
        <a href=${address(`${at(index)}/d/${window.doc}`, { f: id, t: window.offset + window.peak })} data-tip=${`${window.title || `document ${window.doc}`} · ${num(window.activation)} on ${tokenText(window.pieces[window.peak])}`}>
        <${Tokens} pieces=${window.pieces} activations=${window.activations} max=${card.statistics.max} peak=${window.peak} from=${Math.max(0, window.peak - NEAR)} to=${Math.min(window.pieces.length, window.peak + NEAR + 1)} trim=${true} tip=${() => undefined} /></a></li>`)}</ol>
      ${card.statistics.count === 0 && html`<p class="quiet">It never fires on the index' corpus.</p>`}
    </section>
    <${Feeds} index=${index} card=${card} />
    <${LogitsPanel} logits=${{ ...card.logits, top: card.logits.top.slice(0, 6), bottom: card.logits.bottom.slice(0, 6) }} />`;
}

/** What it feeds and what feeds it over the whole corpus, the strongest of each. @param {{ index: string, card: Card }} props */
function Feeds({ index, card }) {
  const url = address(`/api${at(index)}/f/${card.feature}/links`, { limit: 5 });
  /** @param {{ downstream: Links, upstream: Links }} answer */
  const show = ({ downstream, upstream }) => html`${[["promotes", downstream.promotes], ["suppresses", downstream.suppresses], ["is promoted by", upstream.promotes], ["is suppressed by", upstream.suppresses]]
    .filter(([, list]) => list.length > 0)
    .map(([name, list]) => html`<h3>${name}</h3><${FeatureList} index=${index} features=${list} site=${card.site} heads=${[["TWERA", "what the source adds to the target, averaged under the target's activation"]]} values=${(/** @type {Link} */ one) => [num(one.twera)]} />`)}
    ${downstream.n_reached + upstream.n_reached === 0 && html`<p class="quiet">No other feature of this index lies up or down the stream.</p>`}`;
  return html`<${Asking} id="twera" title="Over the corpus" url=${url} show=${show} note="Along the residual stream alone, not in this prompt but over the index' corpus." />`;
}
