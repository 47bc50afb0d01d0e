// The same feature elsewhere: in the other dictionaries of its index, or in another index of the workspace.
import { Asking } from "./asking.js";
import { FeatureList } from "./featurelist.js";
import { useAnswer } from "../lib/api.js";
import { html } from "../lib/dom.js";
import { count, share } from "../lib/format.js";
import { address, at, place, plain, setQuery } from "../lib/place.js";

const HEADS = /** @type {const} */ ([["correlation", "Pearson's r of the activations over the shared tokens"], ["cosine", "of the decoder directions"], ["together", "tokens on which both fire"]]);
const said = (/** @type {number | null} */ value) => (value === null ? "–" : share(value));

/** @param {{ card: Card }} props */
export function MatchesPanel({ card }) {
  const { value } = useAnswer("/api");
  const shelf = /** @type {any} */ (value);
  const others = shelf ? shelf.indexes.map((/** @type {any} */ entry) => entry.name).filter((/** @type {string} */ name) => name !== card.index) : [];
  const other = place.value.query.get("elsewhere") ?? "";
  const base = `/api${at(card.index)}/f/${card.feature}`;
  const url = address(other ? `${base}/match/${encodeURIComponent(other)}` : `${base}/across`, { limit: 8 });
  const tools = others.length > 0 && html`<label class="field">in <select id="elsewhere" aria-label="where" value=${other} onChange=${(/** @type {any} */ event) => setQuery({ elsewhere: event.currentTarget.value })}>
    <option value="">the other layers of ${plain(card.index)}</option>${others.map((/** @type {string} */ name) => html`<option value=${name}>${name}</option>`)}</select></label>`;
  /** @param {Matches} answer */
  const show = (answer) => (answer.by_correlation.length + answer.by_cosine.length === 0 ? html`<p class="quiet">Nowhere${other ? "" : ": this index has no other dictionary, or it fires in none of them"}.</p>` : html`<div class="pair wide">${[["by correlation", answer.by_correlation], ["by decoder", answer.by_cosine]].map(([title, list]) => html`<div><h3>${title}</h3>
    <${FeatureList} index=${answer.other} features=${list} heads=${HEADS} values=${(/** @type {Match} */ one) => [said(one.correlation), said(one.cosine), count(one.count)]} empty="Nothing." /></div>`)}</div>
    <p class="note">${answer.null === null ? "The two indexes share no tokens, so there are no correlations." : `Over ${count(answer.n_tokens)} shared tokens. Moved along them, the feature reaches at most ${share(answer.null)}.`}${answer.is_mutual === null ? "" : answer.is_mutual ? " The best match by correlation is mutual." : " The best match by correlation has another best match."}</p>`);
  return html`<${Asking} id="matches" title="The same feature elsewhere" url=${url} show=${show} tools=${tools} />`;
}
