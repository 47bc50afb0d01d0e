// All features: filter, search, sort; 65,536 rows scroll like ten.
import { Bar } from "../panels/charts.js";
import { Reproduce } from "../panels/reproduce.js";
import { Empty, ErrorPanel } from "../panels/states.js";
import { ToList } from "../panels/tolist.js";
import { VirtualList } from "../panels/virtual.js";
import { get } from "../lib/api.js";
import { isCopy } from "../lib/copy.js";
import { useDebounced } from "../lib/debounce.js";
import { html, useEffect, useState } from "../lib/dom.js";
import { count, num, percent, share, times, tokenText } from "../lib/format.js";
import { address, at, place, setQuery } from "../lib/place.js";

/** @typedef {{ key: string, name: string, tip: string, wide?: boolean, text?: boolean, cell: (row: TableRow) => any }} Column */

/** @type {readonly Column[]} */
const COLUMNS = [
  { key: "density", name: "density", tip: "share of kept tokens on which it fires", cell: (row) => percent(row.density) },
  { key: "f1", name: "F1", tip: "how well the rule that labels it predicts its firings", cell: (row) => html`<${Bar} part=${row.f1} tone="rule" />${share(row.f1)}` },
  { key: "max", name: "max", tip: "largest activation", cell: (row) => num(row.max) },
  { key: "documents", name: "docs", tip: "documents in which it fires", wide: true, cell: (row) => count(row.documents) },
  { key: "entropy", name: "entropy", tip: "bits over the tokens it fires on: 0 is always the same one", wide: true, cell: (row) => num(row.entropy) },
  { key: "token", name: "token", tip: "the token it fires on most", wide: true, text: true, cell: (row) => html`<span class="piece">${row.token ? tokenText(row.token) : ""}</span>` },
  { key: "top_logit", name: "raises", tip: "the output token it raises most", wide: true, text: true, cell: (row) => html`<span class="piece">${row.top_logit ? tokenText(row.top_logit) : ""}</span>` },
  { key: "cosine", name: "nearest", tip: "cosine of the nearest other direction", wide: true, cell: (row) => num(row.cosine) },
  { key: "lift", name: "corpus", tip: "the corpus label it prefers, and by what factor", wide: true, text: true, cell: (row) => (row.corpus_label ? html`${row.corpus_label} <small>${times(row.lift)}</small>` : "") },
];

const TRY = ["density > 1% and f1 < 0.3", "f1 >= 0.8 and entropy > 1", 'rule_kind = "topic"', "cosine > 0.7", "documents = 0", 'list = "mine"', "verdict = wrong", "cluster = 0"];

/** @param {{ index: string }} props */
export function TablePage({ index }) {
  const { query } = place.value;
  const state = { filter: query.get("filter") ?? "", search: query.get("search") ?? "", sort: query.get("sort") ?? "feature", descending: query.get("desc") === "1" };
  const [answer, setAnswer] = useState(/** @type {(Table & { reproduce: any }) | null} */ (null));
  const [error, setError] = useState(/** @type {any} */ (null));
  const [turn, setTurn] = useState(0);
  const [filter, setFilter] = useDebounced(state.filter, (value) => setQuery({ filter: value }));
  const [search, setSearch] = useDebounced(state.search, (value) => setQuery({ search: value }));
  /** @param {number} offset @param {number} limit */
  const source = (offset, limit) => address(`/api${at(index)}/features`, { ...state, sort: state.sort, offset, limit });
  const narrow = useNarrow();
  useEffect(() => void (document.title = `Features · ${index}`), [index]);
  /** @param {string} key */
  const sortBy = (key) => {
    scrollTo(0, 0);
    if (state.sort !== key) setQuery({ sort: key === "feature" ? null : key, desc: key === "feature" ? null : 1 });
    else setQuery({ desc: state.descending ? null : 1 });
  };
  /** @param {string} key @param {string} name @param {string} tip @param {string} [extra] */
  const head = (key, name, tip, extra = "") => html`<button role="columnheader" class=${`head ${extra}`} data-tip=${tip} aria-sort=${state.sort !== key ? "none" : state.descending ? "descending" : "ascending"} onClick=${() => sortBy(key)}>
    ${name}<span class="arrow">${state.sort === key ? (state.descending ? "↓" : "↑") : ""}</span></button>`;
  const columns = COLUMNS.filter((column) => !narrow || !column.wide);
  /** @param {TableRow} row */
  const line = (row) => html`<a class=${`row ${row.documents === 0 ? "dead" : ""}`} href=${`${at(index)}/f/${row.feature}`}>
    <span class="number">${row.feature}</span>
    <span class="label" title=${row.label}>${row.label}${row.origin === "user" && html` <span class="tag">yours</span>`}</span>
    ${columns.map((column) => html`<span class=${column.text ? "cell text" : "cell"}>${column.cell(row)}</span>`)}</a>`;
  return html`<section class="feature-table">
    <header class="title"><h1>Features</h1>${answer && html`<p class="quiet" aria-live="polite">${count(answer.total)}${answer.total === answer.n_features ? "" : ` of ${count(answer.n_features)}`}</p>`}
      <a class="mode" href=${`${at(index)}/search`}>Find by running a text →</a></header>
    <div class="controls">
      <input id="search-labels" type="search" aria-label="search labels" placeholder="Search labels" value=${search} maxlength="500" onInput=${(/** @type {any} */ event) => setSearch(event.currentTarget.value)} />
      <input id="filter" class="code" type="search" aria-label="filter" list="filters" placeholder='Filter: density > 0.01 and label ~ "france"' value=${filter} maxlength="500" onInput=${(/** @type {any} */ event) => setFilter(event.currentTarget.value)} />
      <datalist id="filters">${TRY.map((text) => html`<option value=${text}></option>`)}</datalist>
    </div>
    ${answer && (state.filter || state.search) && answer.total > 0 && !isCopy && html`<${ToList} index=${index} say=${`Put these ${count(answer.total)} on a list`} of=${`${state.filter} ${state.search}`}
      features=${() => get(address(`/api${at(index)}/select`, { filter: state.filter, search: state.search })).then((found) => found.features)} />`}
    ${error && html`<${ErrorPanel} error=${error} again=${() => setTurn((n) => n + 1)} />`}
    <div class="grid" role="table" aria-label="features" aria-rowcount=${answer?.total ?? -1} hidden=${Boolean(error) || answer?.total === 0}>
      <div class="row heads" role="row">${head("feature", "#", "the feature's number")}${head("label", "label", "what it is called", "label")}${columns.map((column) => head(column.key, column.name, column.tip, column.text ? "text" : "cell"))}</div>
      <${VirtualList} source=${source} rowHeight=${32} label="features" row=${line} onAnswer=${(/** @type {any} */ found) => { setAnswer(found); setError(null); }} onProblem=${setError} turn=${turn} />
    </div>
    ${answer && answer.total === 0 && !error && html`<${Empty} title="No feature passes"><p>Loosen the filter or the search.</p><button onClick=${() => setQuery({ filter: null, search: null })}>Clear both</button></${Empty}>`}
    ${answer && html`<${Reproduce} recipe=${answer.reproduce} json=${source(0, 100)} />`}
  </section>`;
}

function useNarrow() {
  const [narrow, setNarrow] = useState(innerWidth < 900);
  useEffect(() => {
    const measure = () => setNarrow(innerWidth < 900);
    addEventListener("resize", measure);
    return () => removeEventListener("resize", measure);
  }, []);
  return narrow;
}
