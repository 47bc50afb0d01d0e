// The same feature elsewhere: in the other dictionaries of its index, or in another index of the workspace.
import { Asking } from "./asking.js";
import { FeatureList } from "./featurelist.js";
import { useAnswer } from "../lib/api.js";
import { html } from "../lib/dom.js";
import { count, share } from "../lib/format.js";
import { address, at, place, plain, setQuery } from "../lib/place.js";

const TITLE = "The same feature elsewhere";
const HEADS = /** @type {const} */ ([["correlation", "Pearson's r of the activations over the shared tokens"], ["cosine", "of the decoder directions"], ["together", "tokens on which both fire"]]);
const said = (/** @type {number | null} */ value) => (value === null ? "–" : share(value));

/** @param {{ card: Card }} props */
export function MatchesPanel({ card }) {
  const shelf = /** @type {{ indexes: readonly { name: string, error: any }[] } | null} */ (useAnswer("/api").value);
  const others = shelf?.indexes.filter((each) => each.name !== card.index && !each.error).map((each) => each.name) ?? [];
  const places = card.n_dictionaries > 1 ? ["", ...others] : others;
  const asked = place.value.query.get("elsewhere") ?? "";
  const other = asked || (places[0] ?? "");
  if (!other && card.n_dictionaries === 1) {
    return html`<section class="panel" id="matches"><h2>${TITLE}</h2><p class="quiet">${shelf ? `${plain(card.index)} holds one dictionary, and the workspace has no other index to look in.` : "…"}</p></section>`;
  }
  const base = `/api${at(card.index)}/f/${card.feature}`;
  const url = address(other ? `${base}/match/${encodeURIComponent(other)}` : `${base}/across`, { limit: 8 });
  const tools = places.length > 0 && html`<label class="field">in <select id="elsewhere" aria-label="where" value=${other} onChange=${(/** @type {any} */ event) => setQuery({ elsewhere: event.currentTarget.value })}>
    ${places.map((name) => html`<option value=${name}>${name || `the other layers of ${plain(card.index)}`}</option>`)}</select></label>`;
  return html`<${Asking} id="matches" title=${TITLE} url=${url} show=${(/** @type {Matches} */ answer) => html`<${Found} answer=${answer} inside=${!other} />`} tools=${tools} />`;
}

/** @param {{ answer: Matches, inside: boolean }} props `inside` its own index */
function Found({ answer, inside }) {
  if (answer.by_correlation.length + answer.by_cosine.length === 0) return html`<p class="quiet">Nowhere${inside ? ": it fires in no other dictionary of this index" : ""}.</p>`;
  return html`<div class="pair wide">${[["by correlation", answer.by_correlation], ["by decoder", answer.by_cosine]].map(([title, list]) => html`<div><h3>${title}</h3>
    <${FeatureList} index=${answer.other} features=${list} heads=${HEADS} values=${(/** @type {Match} */ one) => [said(one.correlation), said(one.cosine), count(one.count)]} empty="Nothing." /></div>`)}</div>
    <p class="note">${answer.null === null ? "The two indexes share no tokens, so there are no correlations." : `Over ${count(answer.n_tokens)} shared tokens. Moved along them, the feature reaches at most ${share(answer.null)}.`}${answer.is_mutual === null ? "" : answer.is_mutual ? " The best match by correlation is mutual." : " The best match by correlation has another best match."}</p>`;
}
