// Odd features: the dense ones with what explains them, duplicates, dead, ultra-rare and one-token features.
import { Bar } from "../panels/charts.js";
import { DenseAblation, DenseCosines, DenseStability } from "../panels/dense.js";
import { Reproduce } from "../panels/reproduce.js";
import { Empty, ErrorPanel, Loading } from "../panels/states.js";
import { useAnswer } from "../lib/api.js";
import { html, useEffect } from "../lib/dom.js";
import { count, num, percent, share, tokenText } from "../lib/format.js";
import { address, at } from "../lib/place.js";

/** @param {{ index: string }} props */
export function OddPage({ index }) {
  const json = `/api${at(index)}/odd`;
  const { value, error, again } = useAnswer(json);
  const odd = /** @type {(Odd & { reproduce: any }) | null} */ (value);
  useEffect(() => void (document.title = `Odd features · ${index}`), [index]);
  if (error) return html`<${ErrorPanel} error=${error} again=${again} />`;
  if (!odd) return html`<${Loading} lines=${12} />`;
  const { counts } = odd;
  const tiles = [
    ["dense", counts.dense, "#dense", "fire on more than 10 % of tokens"],
    ["unexplained", counts.unexplained, "#dense", "dense ones that no test here explains"],
    ["duplicate pairs", counts.duplicates, "#duplicates", "same decoder, same tokens"],
    ["dead", counts.dead, "#dead", "never fire on this corpus"],
    ["ultra-rare", counts.rare, "#rare", "fire on fewer than 10 tokens"],
    ["one token", counts.one_token, "#one-token", "fire on one token id alone"],
  ];
  return html`<header class="title"><h1>Odd features</h1><p class="quiet">of ${count(odd.n_features)} in ${odd.index}, over ${count(odd.kept)} tokens</p></header>
    <dl class="tiles">${tiles.map(([name, n, href, tip]) => html`<div data-tip=${tip}><dt>${name}</dt><dd><a href=${href}>${count(/** @type {number} */ (n))}</a></dd></div>`)}</dl>
    <${Dense} index=${index} odd=${odd} />
    ${odd.dense.length > 0 && html`<div class="columns even dense-more"><${DenseAblation} index=${index} /><${DenseStability} index=${index} />
      ${odd.cosines.length > 1 && html`<${DenseCosines} index=${index} odd=${odd} />`}</div>`}
    <${Duplicates} index=${index} odd=${odd} />
    <div class="columns even">
      <${Lines} index=${index} id="one-token" title="On one token alone" found=${odd.one_token} total=${counts.one_token} note="Fire on 10 tokens or more, all with the same id." />
      <${Lines} index=${index} id="rare" title="Ultra-rare" found=${odd.rare} total=${counts.rare} note="Fire, but on fewer than 10 tokens: what they respond to cannot be told from this corpus." />
    </div>
    <section class="panel" id="dead"><h2>Dead <small>${count(counts.dead)}</small></h2>
      ${odd.dead.length === 0 ? html`<p class="quiet">Every feature fires.</p>` : html`<p class="dead-list">${odd.dead.map((feature) => html`<a class="number" href=${`${at(index)}/f/${feature}`}>${feature}</a> `)}${odd.dead.length < counts.dead && html`<a href=${address(`${at(index)}/features`, { filter: "documents = 0" })}>all ${count(counts.dead)}</a>`}</p>`}</section>
    <${Reproduce} recipe=${odd.reproduce} json=${json} />`;
}

/** @param {{ index: string, feature: number, label: string }} props */
const Named = ({ index, feature, label }) => html`<a href=${`${at(index)}/f/${feature}`}><span class="number">${feature}</span> ${label}</a>`;

/** @param {{ index: string, odd: Odd }} props */
function Dense({ index, odd }) {
  if (odd.dense.length === 0) return html`<section class="panel" id="dense"><h2>Dense</h2><${Empty} title="No feature is dense"><p>None fires on more than a tenth of the tokens.</p></${Empty}></section>`;
  return html`<section class="panel" id="dense"><h2>Dense <small>${count(odd.counts.dense)}</small></h2>
    <table class="plain-table odd"><thead><tr><th>Feature</th><th class="n">density</th><th>explained by</th><th>antipode</th><th class="n" data-tip="cosine of the encoders times cosine of the decoders, both below 0">score</th><th class="n" data-tip="tokens on which both fire, over the firings of the rarer">both fire</th><th>tests</th></tr></thead>
    <tbody>${odd.dense.map((one) => html`<tr><td><${Named} index=${index} feature=${one.feature} label=${one.label} /></td><td class="n">${percent(one.density)}</td>
      <td>${one.explained.length ? one.explained.map((name) => html`<span class="tag">${name}</span> `) : html`<span class="quiet">nothing</span>`}</td>
      ${one.antipode ? html`<td><a class="number" href=${`${at(index)}/f/${one.antipode.feature}`} data-tip=${one.antipode.label}>${one.antipode.feature}</a></td><td class="n">${share(one.antipode.score)}</td><td class="n">${percent(one.antipode.cofire)}</td>` : html`<td class="quiet">none</td><td class="n"></td><td class="n"></td>`}
      <td class="tests">${one.categories.map((test) => html`<span class=${test.holds ? "test holds" : "test"} data-tip=${`${test.name}: ${num(test.value)}, counts from ${num(test.bar)}`}>${test.name} ${share(test.value)}</span> `)}</td></tr>`)}</tbody></table>
    <p class="note">A score near 1 with hardly any common firing: the two are halves of one line. Tests read ${count(odd.tokens_read)} tokens: rank correlation with the position, AUC of token classes, letters of the raised tokens${odd.pc1 ? `, cosine with the first principal component (${odd.pc1})` : ""}.</p></section>`;
}

/** @param {{ index: string, odd: Odd }} props */
function Duplicates({ index, odd }) {
  return html`<section class="panel" id="duplicates"><h2>Duplicates <small>${count(odd.counts.duplicates)}</small></h2>
    ${odd.duplicates.length === 0
      ? html`<p class="quiet">No two features have a decoder cosine of 0.9 or more and share half of their tokens.</p>`
      : html`<table class="plain-table"><thead><tr><th>Feature</th><th>and</th><th class="n">decoder</th><th class="n">encoder</th><th class="n" data-tip="tokens on which both fire, over those on which either does">Jaccard</th></tr></thead>
        <tbody>${odd.duplicates.map((pair) => html`<tr><td><${Named} index=${index} feature=${pair.feature} label=${pair.label} /></td><td><${Named} index=${index} feature=${pair.other} label=${pair.other_label} /></td><td class="n">${share(pair.decoder_cosine)}</td><td class="n">${share(pair.encoder_cosine)}</td><td class="n"><${Bar} part=${pair.jaccard} /> ${share(pair.jaccard)}</td></tr>`)}</tbody></table>`}</section>`;
}

/** @param {{ index: string, id: string, title: string, found: readonly OddFeature[], total: number, note: string }} props */
function Lines({ index, id, title, found, total, note }) {
  return html`<section class="panel" id=${id}><h2>${title} <small>${count(total)}</small></h2>
    ${found.length === 0 ? html`<p class="quiet">None.</p>` : html`<ol class="list wide">${found.map((one) => html`<li><${Named} index=${index} feature=${one.feature} label=${one.label} /><span class="piece">${tokenText(one.token)}</span><span class="value" data-tip="tokens">${count(one.count)}</span></li>`)}</ol>`}
    <p class="note">${note}${found.length < total ? ` ${count(found.length)} of ${count(total)} are listed.` : ""}</p></section>`;
}
