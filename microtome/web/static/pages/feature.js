// One feature: what it is called, what it responds to, what it does to the output, and any text to test it on.
import { AlikePanel } from "../panels/alike.js";
import { AroundPanel } from "../panels/around.js";
import { BestTokensPanel } from "../panels/besttokens.js";
import { BreakdownsPanel } from "../panels/breakdowns.js";
import { HistogramChart } from "../panels/charts.js";
import { CoactivePanel } from "../panels/coactive.js";
import { DreamsPanel } from "../panels/dreams.js";
import { held } from "../panels/editlist.js";
import { EffectsPanel } from "../panels/effects.js";
import { ExamplesPanel } from "../panels/examples.js";
import { LabelPanel } from "../panels/label.js";
import { LinksPanel } from "../panels/links.js";
import { LogitsPanel } from "../panels/logits.js";
import { LossPanel } from "../panels/loss.js";
import { MatchesPanel } from "../panels/matches.js";
import { NotesPanel } from "../panels/notes.js";
import { Reproduce } from "../panels/reproduce.js";
import { ErrorPanel, Loading } from "../panels/states.js";
import { SuspectsPanel } from "../panels/suspects.js";
import { TestBox } from "../panels/testbox.js";
import { get, useAnswer } from "../lib/api.js";
import { isThere } from "../lib/copy.js";
import { html, useEffect } from "../lib/dom.js";
import { count, num, percent } from "../lib/format.js";
import { focus, useKeys } from "../lib/keys.js";
import { address, at, go, place } from "../lib/place.js";

/** @typedef {Card & { reproduce: any, others?: readonly number[] | null }} OneCard `others`: the features of a copy that holds some */

/** The feature before or after this one, of those that are here. @param {OneCard | null} card @param {number} step */
function beside(card, step) {
  if (!card) return null;
  const to = card.others ? card.others[card.others.indexOf(card.feature) + step] : card.feature + step;
  return to >= 0 && to < card.n_features ? to : null;
}

/** @param {{ index: string, id: string }} props */
export function FeaturePage({ index, id }) {
  const feature = Number(id);
  const json = `/api${at(index)}/f/${id}`;
  const { value, error, loading, again } = useAnswer(json);
  const card = /** @type {OneCard | null} */ (value);
  const { query } = place.value;
  const kept = { test: query.get("test"), whole: query.get("whole"), slice: query.get("slice"), wide: query.get("wide"), in: query.get("in"), breaks: query.get("breaks"), links: query.get("links"), together: query.get("together"), elsewhere: query.get("elsewhere") };
  /** @param {number} to */
  const link = (to) => address(`${at(index)}/f/${to}`, kept);
  /** @param {number} step */
  const move = (step) => {
    const to = beside(card, step);
    if (to !== null) go(link(to));
  };
  const random = () => card && go(link(card.others ? card.others[Math.floor(Math.random() * card.others.length)] : Math.floor(Math.random() * card.n_features)));
  useKeys({ j: () => move(1), ArrowRight: () => move(1), k: () => move(-1), ArrowLeft: () => move(-1), r: random, t: () => focus("#test-text") });
  useEffect(() => {
    document.title = `${id}${card && card.feature === feature ? ` ${card.label.text}` : ""} · ${index}`;
    if (!card) return;
    for (const to of [beside(card, 1), beside(card, -1)]) if (to !== null) get(`/api${at(index)}/f/${to}`).catch(() => null);
  }, [card, id]);
  if (error) return html`<${ErrorPanel} error=${error} again=${again} />`;
  if (!card) return html`<${Loading} lines=${12} />`;
  const [before, after] = [beside(card, -1), beside(card, 1)];
  return html`<article class=${`feature ${loading ? "stale" : ""}`}>
    <nav class="stepper" aria-label="features">
      ${before !== null ? html`<a href=${link(before)} rel="prev" data-tip="k">‹</a>` : html`<span>‹</span>`}
      <span>Feature <b>${count(card.feature)}</b> of ${count(card.n_features)}</span>
      ${after !== null ? html`<a href=${link(after)} rel="next" data-tip="j">›</a>` : html`<span>›</span>`}
      <button class="plain" onClick=${random} data-tip="r">random</button>
      ${isThere("steer") && card.statistics.count > 0 && html`<a class="steer-link" href=${address(`${at(index)}/steer`, { edits: held(card.feature), text: query.get("test") })} data-tip="continue a prompt with this feature held at a multiple of its maximum">Steer with it</a>`}
    </nav>
    <${LabelPanel} card=${card} onChange=${again} />
    <${Facts} card=${card} />
    <div class="columns">
      <div class="main-column">
        <${TestBox} index=${index} feature=${feature} />
        <${ExamplesPanel} card=${card} />
      </div>
      <aside class="side-column">
        <section class="panel" id="histogram"><h2>How strongly it fires</h2><${HistogramChart} histogram=${card.histogram} what="firings" /></section>
        <${LogitsPanel} logits=${card.logits} />
        ${card.statistics.count > 0 && html`<${BestTokensPanel} profile=${card.tokens} />`}
        ${card.statistics.count > 0 && html`<${BreakdownsPanel} breakdowns=${card.breakdowns} />`}
        <${NotesPanel} card=${card} onChange=${again} />
      </aside>
    </div>
    <div class="more">
      <${EffectsPanel} card=${card} />
      ${card.statistics.count > 0 && html`<${AroundPanel} card=${card} />`}
      <${LinksPanel} card=${card} />
      ${card.statistics.count > 0 && html`<${CoactivePanel} card=${card} /><${LossPanel} card=${card} />`}
      <${AlikePanel} card=${card} />
      <${MatchesPanel} card=${card} />
      <${SuspectsPanel} card=${card} />
      ${card.statistics.count > 0 && html`<${DreamsPanel} card=${card} />`}
    </div>
    <${Reproduce} recipe=${card.reproduce} json=${json} />
  </article>`;
}

/** @param {{ card: Card }} props */
function Facts({ card }) {
  const s = card.statistics;
  const facts = [
    ["density", percent(s.density), `${count(s.count)} tokens`, "share of kept tokens on which it fires"],
    ["documents", count(s.documents), percent(s.document_share), "documents in which it fires"],
    ["maximum", num(s.max), "", "largest activation in the corpus"],
    ["mean", num(s.mean), "where it fires", "mean activation where it fires"],
    ["token entropy", s.count ? num(card.tokens.entropy) : "–", "bits", "0 bits: always the same token"],
    ["decoder norm", num(s.decoder_norm), `encoder ${num(s.encoder_norm)}`, "length of its direction, in the model's units"],
  ];
  return html`<dl class="tiles">${facts.map(([name, value, more, tip]) => html`<div data-tip=${tip}><dt>${name}</dt><dd>${value}<small>${more}</small></dd></div>`)}</dl>`;
}
