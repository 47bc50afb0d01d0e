// Features of the same dictionary that read alike (encoders) and write alike (decoders).
import { Asking } from "./asking.js";
import { FeatureList } from "./featurelist.js";
import { html } from "../lib/dom.js";
import { count, share } from "../lib/format.js";
import { at } from "../lib/place.js";

const HEADS = /** @type {const} */ ([["encoder", "cosine of the encoder directions"], ["decoder", "cosine of the decoder directions"], ["together", "tokens on which both fire"]]);

/** @param {{ card: Card }} props */
export function AlikePanel({ card }) {
  /** @param {Alikes} answer */
  const show = (answer) => html`<div class="pair wide">${[["writes alike", answer.decoder], ["reads alike", answer.encoder]].map(([title, list]) => html`<div><h3>${title}</h3>
    <${FeatureList} index=${card.index} features=${list} site=${card.site} heads=${HEADS} values=${(/** @type {Alike} */ one) => [share(one.encoder), share(one.decoder), count(one.together)]} /></div>`)}</div>`;
  return html`<${Asking} id="alike" title="Nearest in its dictionary" url=${`/api${at(card.index)}/f/${card.feature}/alike?limit=8`} show=${show} />`;
}
