// Features by a token: exactly over the corpus, without the model.
import { Bar } from "./charts.js";
import { Reproduce } from "./reproduce.js";
import { Empty, ErrorPanel, Loading } from "./states.js";
import { useAnswer } from "../lib/api.js";
import { html, useLayoutEffect, useState } from "../lib/dom.js";
import { count, num, percent, share, tokenText } from "../lib/format.js";
import { address, at, place, setQuery } from "../lib/place.js";

/** @param {{ index: string }} props */
export function FindByToken({ index }) {
  const { query } = place.value;
  const asked = query.get("token") ?? "";
  const spellings = query.get("spellings") !== "0";
  const [text, setText] = useState(asked);
  useLayoutEffect(() => setText(asked), [asked]);
  const json = address(`/api${at(index)}/token`, { text: asked, spellings });
  const { value, error, loading, again } = useAnswer(asked ? json : null);
  const found = /** @type {(TokenSearch & { reproduce: any }) | null} */ (asked ? value : null);
  /** @param {Event} event */
  const run = (event) => {
    event.preventDefault();
    if (text) setQuery({ token: text }, { push: true });
  };
  return html`<section class="panel testbox"><form class="entry" onSubmit=${run}>
      <input id="test-text" type="text" aria-label="token" maxlength="200" placeholder="A token, such as ship" value=${text} onInput=${(/** @type {any} */ event) => setText(event.currentTarget.value)} />
      <button class="main" disabled=${!text}>Find</button></form>
      <label class="tick"><input type="checkbox" checked=${spellings} onChange=${() => setQuery({ spellings: spellings ? 0 : null })} /> in any case and with or without a space</label></section>
    ${loading && asked && !found && html`<${Loading} lines=${4} />`}
    ${error && html`<${ErrorPanel} error=${error} again=${again} />`}
    ${found && html`<div class="bar-head"><h2>${count(found.n_active)} features fire on it</h2><span class="quiet">${found.pieces.slice(0, 8).map((piece) => html`<span class="piece">${tokenText(piece)}</span> `)}${found.pieces.length > 8 && "… "}${count(found.occurrences)} times in the corpus</span></div>`}
    ${found && found.hits.length === 0 && html`<${Empty} title="Nothing fires"><p>No feature fires on it in this corpus.</p></${Empty}>`}
    ${found && found.hits.length > 0 && html`<table class="plain-table"><thead><tr><th>Feature</th><th class="n" data-tip="1 when it fires on every such token and on no other">F1</th><th class="n" data-tip="share of these tokens on which it fires">fires on it</th><th class="n" data-tip="share of its firings that are on these tokens">of its firings</th><th class="n" data-tip="mean activation there">mean</th><th class="n" data-tip="that, of its maximum">of max</th><th class="n">density</th></tr></thead>
      <tbody>${found.hits.map((one) => html`<tr><td><a href=${`${at(index)}/f/${one.feature}`}><span class="number">${one.feature}</span> ${one.label}</a></td>
        <td class="n"><${Bar} part=${one.f1} /> ${share(one.f1)}</td><td class="n">${percent(one.rate)}</td><td class="n">${percent(one.share)}</td><td class="n">${num(one.mean)}</td><td class="n">${percent(one.share_of_max)}</td><td class="n">${percent(one.density)}</td></tr>`)}</tbody></table>
      <${Reproduce} recipe=${found.reproduce} json=${json} />`}`;
}
