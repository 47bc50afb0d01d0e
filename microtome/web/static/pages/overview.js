// An index at a glance: how its features are spread, how good the dictionary is, and what it was made from.
import { HistogramChart, Bar } from "../panels/charts.js";
import { QualityPanel } from "../panels/quality.js";
import { Reproduce } from "../panels/reproduce.js";
import { ErrorPanel, Loading } from "../panels/states.js";
import { useAnswer } from "../lib/api.js";
import { html, useEffect } from "../lib/dom.js";
import { count, num, share, tokenText } from "../lib/format.js";
import { address, at } from "../lib/place.js";

/** @param {{ index: string }} props */
export function OverviewPage({ index }) {
  const json = `/api${at(index)}`;
  const { value, error, again } = useAnswer(json);
  const view = /** @type {(Overview & { reproduce: any, features_here?: number }) | null} */ (value);
  useEffect(() => void (document.title = `${index} · microtome`), [index]);
  if (error) return html`<${ErrorPanel} error=${error} again=${again} />`;
  if (!view) return html`<${Loading} lines=${10} />`;
  const { counts } = view;
  /** @param {string} filter @param {string} sort */
  const table = (filter, sort) => address(`${at(index)}/features`, { filter, sort, desc: sort ? 1 : null });
  const tiles = [
    ["features", counts.features, table("", ""), "in the dictionary"],
    ["dead", counts.dead, table("documents = 0", ""), "never fire on this corpus"],
    ["rare", counts.rare, table("count > 0 and count < 10", "count"), "fire on fewer than 10 tokens"],
    ["dense", counts.dense, table("density > 0.1", "density"), "fire on more than 10 % of tokens"],
    ["tokens", counts.kept, null, `kept, of ${count(counts.tokens)}`],
    ["documents", counts.documents, `${at(index)}/documents`, "in the corpus"],
    ["active a token", num(view.l0), null, "features, on average"],
  ];
  return html`<header class="title"><h1>${view.name}</h1><p class="quiet">${view.sources.model} · ${view.sources.reads} · ${view.sources.corpus}</p></header>
    ${view.features_here !== undefined && view.features_here < counts.features && html`<p class="remark-line">This copy holds ${count(view.features_here)} of the ${count(counts.features)} features. The figures below are of all of them.</p>`}
    ${view.sources.quantised && html`<p class="remark-line">The model's weights are quantised (${view.sources.quantised}): every figure here is of that model, not of the full-precision one.</p>`}
    <dl class="tiles">${tiles.map(([name, number, href, tip]) => html`<div data-tip=${tip}><dt>${name}</dt><dd>${href ? html`<a href=${href}>${typeof number === "number" ? count(number) : number}</a>` : typeof number === "number" ? count(number) : number}</dd></div>`)}</dl>
    <div class="columns even">
      <section class="panel" id="density"><h2>How often features fire</h2><${HistogramChart} histogram=${view.density} what="features" height=${150} /></section>
      <section class="panel" id="f1"><h2>How well a rule predicts each feature</h2><${HistogramChart} histogram=${view.f1} what="features" height=${150} />
        <p class="note">${Object.entries(view.rules).map(([kind, n]) => `${kind} ${count(n)}`).join(" · ")}</p></section>
      <${QualityPanel} quality=${view.quality} quantised=${view.sources.quantised} />
      <${Begin} index=${index} rows=${view.examples} />
      <${Parts} title="Corpus labels" parts=${view.corpus_labels} unit="kept tokens" />
      ${Object.keys(view.roles).length > 1 && html`<${Parts} title="Roles" parts=${view.roles} unit="kept tokens" />`}
      <section class="panel" id="sources"><h2>Made from</h2><dl class="facts">${Object.entries(view.sources).filter(([, text]) => text).map(([name, text]) => html`<dt>${name.replace("_", " ")}</dt><dd>${text}</dd>`)}<dt>index id</dt><dd>${view.id}</dd></dl>
        <p class="note">Documents: ${Object.entries(view.splits).map(([name, n]) => `${name} ${count(n)}`).join(" · ")}.</p></section>
    </div>
    <${Reproduce} recipe=${view.reproduce} json=${json} />`;
}

/** @param {{ index: string, rows: readonly TableRow[] }} props */
function Begin({ index, rows }) {
  if (rows.length === 0) return null;
  return html`<section class="panel" id="begin"><h2>Begin with</h2>
    <ol class="list wide">${rows.map((row) => html`<li><a href=${`${at(index)}/f/${row.feature}`}><span class="number">${row.feature}</span> <span class="label">${row.label}</span></a>
      <span class="piece">${row.top_logit && tokenText(row.top_logit)}</span><span class="value" data-tip="F1 of its rule">${share(row.f1)}</span></li>`)}</ol>
    <p class="note"><a href=${`${at(index)}/features`}>All features</a> · <a href=${`${at(index)}/search`}>find by running a text</a> · <a href=${`${at(index)}/documents`}>documents</a></p></section>`;
}

/** @param {{ title: string, parts: Record<string, number>, unit: string }} props */
function Parts({ title, parts, unit }) {
  const rows = Object.entries(parts).sort(([, a], [, b]) => b - a);
  if (rows.length < 2) return null;
  return html`<section class="panel"><h2>${title}</h2><ol class="list">${rows.map(([name, n]) => html`<li><span class="label">${name || "(none)"}</span><${Bar} part=${n / rows[0][1]} /><span class="value">${count(n)}</span></li>`)}</ol><p class="note">${unit}</p></section>`;
}
