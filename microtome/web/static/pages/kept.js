// What people keep of an index: lists, verdicts, labels of their own and notes, to be looked at and taken away as files.
import { Reproduce } from "../panels/reproduce.js";
import { Empty, ErrorPanel, Loading } from "../panels/states.js";
import { listed } from "../panels/tolist.js";
import { post, useAnswer } from "../lib/api.js";
import { html, useEffect, useState } from "../lib/dom.js";
import { count, percent } from "../lib/format.js";
import { address, at } from "../lib/place.js";

/** @param {{ index: string }} props */
export function KeptPage({ index }) {
  const json = `/api${at(index)}/kept`;
  const { value, error, again } = useAnswer(json);
  const [failed, setFailed] = useState(/** @type {any} */ (null));
  const kept = /** @type {(Kept & { reproduce: any }) | null} */ (value);
  useEffect(() => void (document.title = `Kept · ${index}`), [index]);
  if (error) return html`<${ErrorPanel} error=${error} again=${again} />`;
  if (!kept) return html`<${Loading} lines=${8} />`;
  const drop = (/** @type {string} */ name) => post(`/api${at(index)}/lists`, { name, drop: true }).then(() => setFailed(null), setFailed).then(again);
  return html`<header class="title"><h1>Kept</h1><p class="quiet">${count(kept.lists.length)} ${kept.lists.length === 1 ? "list" : "lists"}, ${count(kept.features.length)} ${kept.features.length === 1 ? "feature" : "features"}</p>
      <span class="mode"><a href=${json} download=${`${index}-kept.json`}>JSON</a> · <a href=${`${json}.csv`} download=${`${index}-kept.csv`}>CSV</a></span></header>
    ${failed && html`<${ErrorPanel} error=${failed} />`}
    ${kept.features.length === 0 && kept.lists.length === 0
      ? html`<${Empty} title="Nothing is kept yet"><p>On a feature's page: a verdict, a list, a note, or a label of your own. On the map: draw around features (l) and put them on a list.</p></${Empty}>`
      : html`<section class="panel" id="lists"><h2>Lists</h2>
        ${kept.lists.length === 0 ? html`<p class="quiet">None.</p>` : html`<ul class="kept-lists">${kept.lists.map((list) => html`<li><a href=${listed(index, list.name)}>${list.name}</a><a class="quiet" href=${address(`${at(index)}/map`, { list: list.name })}>on the map</a><span class="value">${count(list.features.length)}</span><time class="quiet">${list.created.slice(0, 10)}</time><button class="plain" aria-label=${`remove the list ${list.name}`} onClick=${() => drop(list.name)}>remove</button></li>`)}</ul>`}</section>
      <section class="panel kept-features"><h2>Features</h2><div class="scroll"><table class="plain-table"><thead><tr><th>Feature</th><th>verdict</th><th>lists</th><th>notes</th><th class="n">density</th></tr></thead>
        <tbody>${kept.features.slice(0, 500).map((one) => html`<tr><td><a href=${`${at(index)}/f/${one.feature}`}><span class="number">${one.feature}</span> ${one.label}</a>${one.origin === "user" && html` <span class="tag">yours</span>`}</td><td>${one.verdict}</td><td>${one.lists.map((name) => html`<span class="tag">${name}</span> `)}</td><td>${one.notes.map((note) => html`<p class="remark">${note.text}</p>`)}</td><td class="n">${percent(one.density)}</td></tr>`)}</tbody></table></div>
        ${kept.features.length > 500 && html`<p class="note">500 of ${count(kept.features.length)}; the files have all.</p>`}</section>`}
    <${Reproduce} recipe=${kept.reproduce} json=${json} />`;
}
