// One document: its text, the features active in it, and each token's features.
import { Barcode } from "../panels/charts.js";
import { RankChoice } from "../panels/rank.js";
import { Reproduce } from "../panels/reproduce.js";
import { ErrorPanel, Loading } from "../panels/states.js";
import { Tokens } from "../panels/tokens.js";
import { TokenPanel } from "../panels/token.js";
import { useAnswer } from "../lib/api.js";
import { html, useEffect, useMemo } from "../lib/dom.js";
import { count, num, percent, tokenText } from "../lib/format.js";
import { useKeys } from "../lib/keys.js";
import { address, at, go, place, setQuery } from "../lib/place.js";

const HUES = 6;
const LENGTH = 4096;

/** @typedef {{ values: number[], hues: number[], best: number[], full: number }} Paint */

/** The activations of the chosen feature, or the strongest of the listed ones on each token. @param {DocumentView} view @param {number | null} chosen @returns {Paint} */
function painting(view, chosen) {
  const n = view.pieces.length;
  /** @type {Paint} */
  const paint = { values: new Array(n).fill(0), hues: new Array(n).fill(-1), best: new Array(n).fill(-1), full: 1 };
  const features = chosen === null ? view.features.slice(0, HUES) : view.features.filter((one) => one.feature === chosen);
  features.forEach((one, hue) => {
    one.offsets.forEach((offset, i) => {
      const at = offset - view.offset;
      const depth = one.activations[i] / one.max;
      if (depth <= paint.values[at]) return;
      paint.values[at] = depth;
      paint.best[at] = one.feature;
      if (chosen === null) paint.hues[at] = hue;
    });
  });
  return paint;
}

/** @param {{ index: string, id: string }} props */
export function DocumentPage({ index, id }) {
  const { query } = place.value;
  const rank = query.get("rank") ?? "specific";
  const chosen = query.has("f") ? Number(query.get("f")) : null;
  const token = query.has("t") ? Number(query.get("t")) : null;
  const offset = Number(query.get("offset") ?? Math.floor((token ?? 0) / LENGTH) * LENGTH) || 0;
  const json = address(`/api${at(index)}/d/${id}`, { rank, offset: offset || null, feature: chosen });
  const { value, error, loading, again } = useAnswer(json);
  const view = /** @type {(DocumentView & { reproduce: any }) | null} */ (value);
  const paint = useMemo(() => view && painting(view, chosen), [view, chosen]);
  const corpus = /** @type {DocumentList | null} */ (useAnswer(address(`/api${at(index)}/documents`, { limit: 1 })).value);
  /** @param {number} step */
  const move = (step) => corpus && Number(id) + step >= 0 && Number(id) + step < corpus.n_documents && go(address(`${at(index)}/d/${Number(id) + step}`, { rank: query.get("rank") }));
  useKeys({ j: () => move(1), ArrowRight: () => move(1), k: () => move(-1), ArrowLeft: () => move(-1), Escape: () => setQuery({ t: null, f: null }) });
  useEffect(() => {
    // a link that names a token late in a long text: the stretch it lies in stays when the token is closed
    if (offset > 0 && !query.has("offset")) setQuery({ offset });
  }, [offset, query]);
  useEffect(() => {
    document.title = `${view?.title || `Document ${id}`} · ${index}`;
    if (token !== null && view) document.querySelector(".reading .picked")?.scrollIntoView({ block: "nearest" });
  }, [view, id]);
  if (error) return html`<${ErrorPanel} error=${error} again=${again} />`;
  if (!view || !paint) return html`<${Loading} lines=${14} />`;
  const labels = new Map(view.features.map((one) => [one.feature, one.label]));
  /** @param {number} i */
  const tip = (i) => (paint.best[i] >= 0 ? `${tokenText(view.pieces[i])}   ${paint.best[i]} ${labels.get(paint.best[i])}   ${percent(paint.values[i])} of its strongest here` : undefined);
  return html`<article class=${`document ${loading ? "stale" : ""}`}>
    <header class="title"><h1>${view.title || `Document ${view.doc}`}</h1>
      <p class="quiet">document ${view.doc} · ${view.corpus_label && html`<span class="tag">${view.corpus_label}</span> · `}${view.split} · ${count(view.n_tokens)} tokens · ${count(view.n_active)} features active</p></header>
    <div class="columns">
      <div class="main-column">
        <section class="reading panel">
          <p class="legend">${chosen === null
            ? html`Painted: the first ${HUES} features of the list. Click a token for its features, a feature to paint it alone.`
            : html`Painted: <a href=${`${at(index)}/f/${chosen}`}>${chosen}</a> ${labels.get(chosen) ?? "(not active here)"} <button class="plain" onClick=${() => setQuery({ f: null })}>paint the list again</button>`}</p>
          <${Turns} view=${view} paint=${paint} token=${token} tip=${tip} />
          <${Stretch} view=${view} />
        </section>
        <${Reproduce} recipe=${view.reproduce} json=${json} />
      </div>
      <aside class="side-column">
        ${token !== null && html`<${TokenPanel} index=${index} doc=${view.doc} offset=${token} chosen=${chosen} />`}
        <section class="panel" id="active">
          <div class="bar-head"><h2>Active features</h2><${RankChoice} rank=${rank} /></div>
          ${view.features.length === 0 && html`<p class="quiet">No feature fires here.</p>`}
          <ol class="active">${view.features.map((one, i) => html`<li class=${one.feature === chosen ? "on" : ""}>
            <button class="pick" aria-pressed=${one.feature === chosen} onClick=${() => setQuery({ f: one.feature === chosen ? null : one.feature })}>
              <span class=${`swatch ${chosen === null && i < HUES ? `hue${i}` : one.feature === chosen ? "solo" : ""}`}></span><span class="label">${one.label}</span></button>
            <a class="number" href=${`${at(index)}/f/${one.feature}`} data-tip="open this feature">${one.feature}</a>
            <${Barcode} offsets=${one.offsets} activations=${one.activations} start=${view.offset} length=${view.pieces.length} max=${one.max} color=${chosen === null && i < HUES ? `--h${i}` : "--activation"} />
            <span class="quiet value" data-tip=${`${count(one.count)} tokens, largest ${num(one.max)}, density ${percent(one.density)}`}>${percent(one.share_of_max)}</span></li>`)}</ol>
          <p class="note">The bars show where in the text it fires; the figure is its largest activation here as a share of its maximum.</p>
        </section>
      </aside>
    </div>
  </article>`;
}

/** @param {{ view: DocumentView, paint: Paint, token: number | null, tip: (i: number) => string | undefined }} props */
function Turns({ view, paint, token, tip }) {
  const end = view.offset + view.pieces.length;
  const turns = view.turns.filter((turn) => turn.start < end && turn.end > view.offset);
  const many = turns.length > 1 || turns.some((turn) => turn.role !== "text");
  /** @param {number} from @param {number} to */
  const strip = (from, to) => html`<${Tokens} pieces=${view.pieces} activations=${paint.values} hues=${paint.hues} kept=${view.kept} breaks=${true} from=${from} to=${to}
    selected=${token === null ? null : token - view.offset} tip=${tip} onPick=${(/** @type {number} */ i) => setQuery({ t: view.offset + i === token ? null : view.offset + i })} />`;
  if (!many) return html`<div class="body">${strip(0, view.pieces.length)}</div>`;
  return turns.map((turn) => html`<div class=${`turn ${turn.role}`}><h3>${turn.role}</h3><div class="body">${strip(Math.max(0, turn.start - view.offset), Math.min(view.pieces.length, turn.end - view.offset))}</div></div>`);
}

/** @param {{ view: DocumentView }} props */
function Stretch({ view }) {
  const end = view.offset + view.pieces.length;
  if (view.offset === 0 && end >= view.n_tokens) return null;
  return html`<nav class="pager"><span class="quiet">tokens ${count(view.offset)} to ${count(end)} of ${count(view.n_tokens)}</span>
    ${view.offset > 0 && html`<button onClick=${() => setQuery({ offset: Math.max(0, view.offset - LENGTH) || null, t: null }, { push: true })}>Earlier</button>`}
    ${end < view.n_tokens && html`<button onClick=${() => setQuery({ offset: end, t: null }, { push: true })}>Later</button>`}</nav>`;
}
