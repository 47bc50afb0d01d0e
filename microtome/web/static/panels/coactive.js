// Features that fire on the same tokens.
import { Asking } from "./asking.js";
import { FeatureList } from "./featurelist.js";
import { html } from "../lib/dom.js";
import { count, num, percent, share } from "../lib/format.js";
import { address, at, place, setQuery } from "../lib/place.js";

const RANKS = ["jaccard", "pmi", "count"];
const HEADS = /** @type {const} */ ([["Jaccard", "tokens on which both fire, over those on which either does"], ["PMI", "bits; 0 when they know nothing of each other"], ["together", "tokens on which both fire"], ["share", "of this feature's firings"]]);

/** @param {{ card: Card }} props */
export function CoactivePanel({ card }) {
  const asked = place.value.query.get("together") ?? "";
  const rank = RANKS.includes(asked) ? asked : "jaccard";
  const tools = html`<span class="choice" role="group" aria-label="rank">${RANKS.map((one) => html`<button aria-pressed=${rank === one} onClick=${() => setQuery({ together: one === "jaccard" ? null : one })}>${one === "pmi" ? "PMI" : one === "jaccard" ? "Jaccard" : one}</button>`)}</span>`;
  /** @param {{ coactive: readonly Coactive[] }} answer */
  const show = ({ coactive }) => html`<${FeatureList} index=${card.index} features=${coactive} site=${card.site} heads=${HEADS} empty="Nothing fires with it on five tokens or more."
    values=${(/** @type {Coactive} */ one) => [share(one.jaccard), num(one.pmi), count(one.count), percent(one.share)]} />`;
  return html`<${Asking} id="coactive" title="Fires together with" url=${address(`/api${at(card.index)}/f/${card.feature}/coactive`, { rank, limit: 10 })} show=${show} tools=${tools} />`;
}
