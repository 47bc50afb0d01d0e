// Features by one text: the model runs on it here, and the features that respond are ranked.
import { Bar } from "./charts.js";
import { HitHeads } from "./hitheads.js";
import { ModelWait } from "./modelwait.js";
import { RankChoice } from "./rank.js";
import { Reproduce } from "./reproduce.js";
import { Empty, ErrorPanel } from "./states.js";
import { fits, TextBox, TooLong } from "./textbox.js";
import { Tokens, tokenTip } from "./tokens.js";
import { PAUSE, useAnswer } from "../lib/api.js";
import { html, useLayoutEffect, useState } from "../lib/dom.js";
import { count, num, percent, tokenText } from "../lib/format.js";
import { address, at, place, setQuery } from "../lib/place.js";

/** @param {{ index: string }} props */
export function FindByText({ index }) {
  const { query } = place.value;
  const asked = query.get("text") ?? "";
  const rank = query.get("rank") ?? "specific";
  const [text, setText] = useState(asked);
  const [painted, setPainted] = useState(-1);
  useLayoutEffect(() => setText(asked), [asked]);
  useLayoutEffect(() => setPainted(-1), [asked, rank]);
  const { value, error, loading, again } = useAnswer(asked ? `/api${at(index)}/search` : null, { text: asked, rank }, PAUSE);
  const found = /** @type {(Search & { reproduce: any }) | null} */ (asked ? value : null);
  const isReady = text !== "" && fits(text);
  const run = () => (text === asked ? again() : setQuery({ text }, { push: true }));
  /** @param {KeyboardEvent} event */
  const press = (event) => {
    if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    if (isReady || !text) run();
  };
  const hit = found?.hits.find((one) => one.feature === painted) ?? found?.hits[0];
  return html`<section class="panel testbox">
      <div class="entry">
        <${TextBox} id="test-text" label="text" rows=${3} hint="Type a text and press Enter: the model runs on it, and the features that fire are ranked." text=${text} set=${setText} press=${press} />
        <button class="main" disabled=${!isReady} onClick=${run}>Run</button>
      </div>
      <${TooLong} text=${text} />
      ${loading && asked && html`<${ModelWait} index=${index} />`}
      ${found && hit && html`<p class="strip-line"><${Tokens} pieces=${found.pieces} activations=${hit.activations} max=${hit.max} peak=${hit.peak} breaks=${true} tip=${(/** @type {number} */ i) => (hit.activations[i] > 0 ? tokenTip(found.pieces[i], hit.activations[i], (hit.activations[i] * hit.share_of_max) / hit.max) : undefined)} /></p>
        <p class="note">Painted: feature ${hit.feature}, ${hit.label}. Point at a line below to paint another.</p>`}
    </section>
    ${error && html`<${ErrorPanel} error=${error} again=${again} />`}
    ${found && html`<div class="bar-head"><h2>${count(found.n_active)} features fire</h2><${RankChoice} rank=${rank} /></div>`}
    ${found && found.hits.length === 0 && html`<${Empty} title="Nothing fires"><p>No feature responds to this text.</p></${Empty}>`}
    ${found && found.hits.length > 0 && html`<${HitHeads} value="activation" /><ol class="hits">${found.hits.map((one) => html`<li class=${one === hit ? "on" : ""} onPointerEnter=${() => setPainted(one.feature)} onFocusIn=${() => setPainted(one.feature)}>
      <a href=${address(`${at(index)}/f/${one.feature}`, { test: asked, whole: asked.includes("\n") })}><span class="number">${one.feature}</span> <span class="label">${one.label}</span></a>
      <span class="piece">${tokenText(found.pieces[one.peak])}</span>
      <span class="meter-value"><${Bar} part=${one.share_of_max} /> ${percent(one.share_of_max)} of max</span>
      <span class="value" data-tip="largest in the text">${num(one.max)}</span>
      <span class="quiet value" data-tip="share of the corpus on which it fires">${percent(one.density)}</span>
      ${one.share_of_max > 1 && html`<span class="badge weak" data-tip="stronger than anything in the corpus">above 100 %</span>`}</li>`)}</ol>
      <${Reproduce} recipe=${found.reproduce} json=${address(`/api${at(index)}/search`, { text: asked, rank })} />`}`;
}
