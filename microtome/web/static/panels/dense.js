// What the dense features of an index are worth together: their span taken out of the model, in another dictionary, and their cosines.
import { Asking } from "./asking.js";
import { ModelWait } from "./modelwait.js";
import { ErrorPanel } from "./states.js";
import { post, useAnswer } from "../lib/api.js";
import { html, useState } from "../lib/dom.js";
import { count, num, percent, share } from "../lib/format.js";
import { at, place, setQuery } from "../lib/place.js";

/** @param {{ index: string }} props */
export function DenseAblation({ index }) {
  const url = `/api${at(index)}/odd/ablation`;
  /** @param {{ ablation: Ablation | null }} answer @param {() => void} again */
  const show = ({ ablation }, again) => (ablation ? html`<${Ablated} found=${ablation} />` : html`<${Measure} index=${index} url=${url} done=${again} />`);
  return html`<${Asking} id="ablation" title="The model without their span" url=${url} show=${show} />`;
}

/** @param {{ index: string, url: string, done: () => void }} props */
function Measure({ index, url, done }) {
  const [state, setState] = useState(/** @type {any} */ ({ busy: false, error: null }));
  const run = () => {
    setState({ busy: true, error: null });
    post(url, {}).then(done, (error) => setState({ busy: false, error }));
  };
  return html`<p class="quiet">Not measured yet. The model runs on 24 contexts without the span of what the dense features write, and without other subspaces of the same dimension; the answer is kept. About a minute on a laptop.</p>
    <p><button class="main" id="ablate" disabled=${state.busy} onClick=${run}>Measure now</button></p>
    ${state.busy && html`<${ModelWait} index=${index} />`}
    ${state.error && html`<${ErrorPanel} error=${state.error} again=${run} />`}`;
}

/** @param {{ found: Ablation }} props */
function Ablated({ found }) {
  const widest = Math.max(...found.removed.map((one) => one.kl_high), 1e-12);
  const dimensions = Object.entries(found.dimensions);
  return html`<table class="plain-table"><thead><tr><th>taken out</th><th>KL, nats a token</th><th class="n">loss</th><th class="n" data-tip="share of the variance there">variance</th></tr></thead>
    <tbody>${found.removed.map((one) => html`<tr><td>${one.name}</td><td class="spread"><${Spread} mean=${one.kl} low=${one.kl_low} high=${one.kl_high} widest=${widest} /></td>
      <td class="n" data-tip=${`95 % interval ${num(one.loss_low)} to ${num(one.loss_high)}`}>${one.loss >= 0 ? "+" : ""}${num(one.loss)}</td><td class="n">${percent(one.variance)}</td></tr>`)}</tbody></table>
    <p class="note">${dimensions.slice(0, 3).map(([site, n]) => `${n} of ${found.widths[site]} dimensions at ${site}`).join(", ")}${dimensions.length > 3 ? ` and ${dimensions.length - 3} more sites` : ""}, over ${count(found.tokens)} tokens of ${found.contexts} contexts; 95 % intervals over contexts. Loss of the untouched model ${num(found.loss)}. ${found.model}. Principal components are those of the same tokens.</p>`;
}

/** A mean with its interval on a common scale. @param {{ mean: number, low: number, high: number, widest: number }} props */
function Spread({ mean, low, high, widest }) {
  const part = (/** @type {number} */ x) => `${Math.min(100, (100 * x) / widest)}%`;
  return html`<dd data-tip=${`${num(mean)} nats, 95 % interval ${num(low)} to ${num(high)}`}><span class="range"><i style=${{ left: part(low), width: `${Math.max(1, (100 * (high - low)) / widest)}%` }}></i><b style=${{ left: part(mean) }}></b></span><span class="value">${num(mean)}</span></dd>`;
}

/** @param {{ index: string }} props */
export function DenseStability({ index }) {
  const shelf = useAnswer("/api");
  const others = /** @type {{ indexes: readonly { name: string, error: any }[] } | null} */ (shelf.value)?.indexes.filter((each) => each.name !== index && !each.error) ?? [];
  const chosen = place.value.query.get("against") ?? "";
  const tools = html`<select aria-label="another dictionary" onChange=${(/** @type {any} */ event) => setQuery({ against: event.currentTarget.value || null }, { push: true })}>
    <option value="" selected=${!chosen}>another dictionary …</option>${others.map((each) => html`<option value=${each.name} selected=${each.name === chosen}>${each.name}</option>`)}</select>`;
  if (!chosen) {
    return html`<section class="panel" id="stability"><div class="panel-head"><h2>The same subspace in another dictionary?</h2>${others.length > 0 && tools}</div>
      <p class="quiet">${others.length > 0 ? "Choose the index of another dictionary of the same site, trained from another seed say." : "This workspace holds no other index. Train a second dictionary from another seed, index it, and compare: "}</p>
      ${others.length === 0 && html`<pre><code>microtome odd ${index} --against OTHER</code></pre>`}</section>`;
  }
  const url = `/api${at(index)}/odd/stability/${encodeURIComponent(chosen)}`;
  return html`<${Asking} id="stability" title="The same subspace in another dictionary?" url=${url} tools=${tools} show=${(/** @type {Stability} */ found) => html`<${Stable} found=${found} />`} />`;
}

/** @param {{ found: Stability }} props */
function Stable({ found }) {
  if (!found.dense) return html`<p class="quiet">${found.n_dense} and ${found.other_dense} dense features: there is nothing to compare.</p>`;
  return html`<table class="plain-table"><thead><tr><th>subspaces</th><th class="n" data-tip="mean squared cosine of the principal angles: 1 for one subspace">shared</th><th>cosines of the principal angles</th><th class="n" data-tip="largest cosine with any one feature of the other, mean">single</th></tr></thead>
    <tbody>${[found.dense, ...found.controls].map((one) => html`<tr><td>${one.name}</td><td class="n" data-tip=${one.draws > 1 ? `${share(one.low)} to ${share(one.high)} in ${one.draws} draws` : null}>${share(one.shared)}</td>
      <td><span class="angles" role="img" aria-label=${one.cosines.map(share).join(" ")}>${one.cosines.slice(0, 40).map((cosine) => html`<i data-tip=${share(cosine)} style=${{ height: `${Math.max(4, 100 * cosine)}%` }}></i>`)}</span></td><td class="n">${share(one.single)}</td></tr>`)}</tbody></table>
    <p class="note">${found.n_dense} dense features span ${found.rank} of ${count(found.width)} dimensions here, ${found.other_dense} span ${found.other_rank} in ${found.other}. A bar is the cosine of one principal angle; random subspaces of these sizes share ${share(Math.max(found.rank, found.other_rank) / found.width)}.</p>`;
}

/** @param {{ index: string, odd: Odd }} props */
export function DenseCosines({ index, odd }) {
  const shown = odd.dense.slice(0, odd.cosines.length);
  return html`<section class="panel" id="cosines"><h2>Cosines of what the densest write</h2>
    <div class="scroll"><table class="cosines"><thead><tr><th></th>${shown.map((one) => html`<th data-tip=${one.label}>${one.feature}</th>`)}</tr></thead>
    <tbody>${odd.cosines.map((row, i) => html`<tr><th><a href=${`${at(index)}/f/${shown[i].feature}`} data-tip=${shown[i].label}>${shown[i].feature}</a></th>${row.map((cosine, j) => html`<td class=${cosine < 0 ? "down" : "up"} style=${{ "--part": i === j ? 0 : Math.abs(cosine) }} data-tip=${`${shown[i].label} and ${shown[j].label}: ${num(cosine)}`}>${i === j ? "" : share(cosine).replace("0.", ".").replace("-", "−")}</td>`)}</tr>`)}</tbody></table></div>
    <p class="note">Of the decoder vectors of all sites side by side, 0 where a feature does not write.</p></section>`;
}
