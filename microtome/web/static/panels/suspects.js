// Features that may be parts of the same concept: split, or absorbed. Suspicions with their figures.
import { Asking } from "./asking.js";
import { FeatureList } from "./featurelist.js";
import { html } from "../lib/dom.js";
import { count, num, share } from "../lib/format.js";
import { at } from "../lib/place.js";

const HEADS = /** @type {const} */ ([["", "what is suspected"], ["decoder", "cosine of the decoder directions"], ["encoder", "cosine of the encoder directions"], ["together", "tokens on which both fire"], ["expected", "tokens on which both would fire if they knew nothing of each other on each word"], ["strength", "what the rarer one writes along the other's direction, over what that one writes itself"]]);

/** @param {{ card: Card }} props */
export function SuspectsPanel({ card }) {
  /** @param {{ suspects: readonly Suspect[] }} answer */
  const show = ({ suspects }) => html`<${FeatureList} index=${card.index} features=${suspects} site=${card.site} heads=${HEADS} empty="No suspicion."
    values=${(/** @type {Suspect} */ one) => [one.kind, share(one.decoder), share(one.encoder), count(one.together), num(one.expected), share(one.strength)]} />`;
  return html`<${Asking} id="suspects" title="Split or absorbed?" url=${`/api${at(card.index)}/f/${card.feature}/suspects?limit=8`} show=${show}
    note="Both need a decoder cosine of at least 0.3 and 10 firings of each. Split: together on at most a tenth of the tokens expected, which are 5 or more. Absorbed: the rarer one fires at most half as often, at most a tenth of its firings are together, its strength is at least 0.4 and the encoder cosine at most half of the decoder cosine. To be looked at, not a proof." />`;
}
