// What a feature feeds and what feeds it along the residual stream: TWERA, with ERA and the virtual weight beside.
import { Asking } from "./asking.js";
import { FeatureList } from "./featurelist.js";
import { ModelWait } from "./modelwait.js";
import { ErrorPanel } from "./states.js";
import { useAnswer } from "../lib/api.js";
import { html, useEffect, useState } from "../lib/dom.js";
import { count, num } from "../lib/format.js";
import { address, at, place, setQuery } from "../lib/place.js";

const SCALES = /** @type {Record<string, string>} */ ({ measured: "the norm's scale averaged under the target", none: "no norm between", "left out": "the norm's scale left out" });
const HEADS = /** @type {const} */ ([["TWERA", "what the source adds to the target, averaged under the target's activation"], ["ERA", "the same over the tokens on which the target fires, over all tokens"], ["V", "virtual weight: decoder · encoder"], ["together", "tokens on which both fire"]]);

/** @param {{ card: Card }} props */
export function LinksPanel({ card }) {
  const rank = place.value.query.get("links") === "era" ? "era" : "twera";
  const url = address(`/api${at(card.index)}/f/${card.feature}/links`, { rank, limit: 8 });
  const tools = html`<span class="choice" role="group" aria-label="rank">${["twera", "era"].map((one) => html`<button aria-pressed=${rank === one} onClick=${() => setQuery({ links: one === "twera" ? null : one })}>${one.toUpperCase()}</button>`)}</span>`;
  /** @param {{ downstream: Links, upstream: Links }} answer */
  const show = ({ downstream, upstream }) => html`
    <${Way} card=${card} links=${downstream} titles=${["promotes", "suppresses"]} empty="Nothing of this index lies downstream." />
    <${Silenced} card=${card} reached=${downstream.n_reached > 0} />
    <${Way} card=${card} links=${upstream} titles=${["is promoted by", "is suppressed by"]} empty="Nothing of this index lies upstream." />`;
  return html`<${Asking} id="links" title="What it feeds, and what feeds it" url=${url} show=${show} tools=${tools}
    note="Along the residual stream alone: what attention carries to later tokens, and what goes through other features, is not in it." />`;
}

/** @param {{ card: Card, links: Links, titles: readonly string[], empty: string }} props */
function Way({ card, links, titles, empty }) {
  if (links.n_reached === 0) return html`<p class="quiet">${empty}</p>`;
  return html`<div class="pair wide">${[links.promotes, links.suppresses].map((list, i) => html`<div>
      <h3>${titles[i]} <span class="quiet">of ${count(links.n_reached)}</span></h3>
      <${FeatureList} index=${card.index} features=${list} site=${card.site} heads=${HEADS}
        values=${(/** @type {Link} */ one) => [num(one.twera), num(one.era), num(one.weight), count(one.count)]} empty="Nothing." />
    </div>`)}</div>
    <p class="note">${SCALES[links.scale]}</p>`;
}

/** The features that it keeps from firing: the model runs when asked. @param {{ card: Card, reached: boolean }} props */
function Silenced({ card, reached }) {
  const [asked, setAsked] = useState(false);
  useEffect(() => setAsked(false), [card.feature]);
  const { value, error, loading } = useAnswer(asked ? `/api${at(card.index)}/f/${card.feature}/silenced?limit=8` : null);
  const links = /** @type {Links | null} */ (asked ? value : null);
  if (!reached) return null;
  if (!asked) return html`<p><button id="silenced" onClick=${() => setAsked(true)}>Find what it keeps silent</button> <span class="quiet">runs the model on up to 64 of its firings</span></p>`;
  if (error) return html`<${ErrorPanel} error=${error} />`;
  if (loading || !links) return html`<${ModelWait} index=${card.index} />`;
  return html`<h3>would suppress <span class="quiet">measured on ${count(links.sample)} of its firings</span></h3>
    <${FeatureList} index=${card.index} features=${links.would_suppress} site=${card.site} empty="Nothing that would fire without it."
      heads=${[["would rise by", "mean rise of its activation without this feature"], ["newly on", "tokens on which it is silent and would not be"], ["V", "virtual weight"]]}
      values=${(/** @type {Suppressed} */ one) => [num(one.released), count(one.count), num(one.weight)]} />`;
}
