// The documents of the corpus.
import { Empty, ErrorPanel, Loading } from "../panels/states.js";
import { Reproduce } from "../panels/reproduce.js";
import { useAnswer } from "../lib/api.js";
import { html, useEffect } from "../lib/dom.js";
import { count } from "../lib/format.js";
import { useDebounced } from "../lib/debounce.js";
import { address, at, place, setQuery } from "../lib/place.js";

const PAGE = 100;

/** @param {{ index: string }} props */
export function DocumentsPage({ index }) {
  const { query } = place.value;
  const search = query.get("search") ?? "";
  const offset = Number(query.get("offset") ?? 0) || 0;
  const [text, setText] = useDebounced(search, (value) => setQuery({ search: value, offset: null }));
  const json = address(`/api${at(index)}/documents`, { search, offset, limit: PAGE });
  const { value, error, loading, again } = useAnswer(json);
  const list = /** @type {(DocumentList & { reproduce: any }) | null} */ (value);
  useEffect(() => void (document.title = `Documents · ${index}`), [index]);
  return html`<header class="title"><h1>Documents</h1>${list && html`<p class="quiet">${count(list.total)} of ${count(list.n_documents)}</p>`}</header>
    <div class="controls"><input type="search" aria-label="search titles and labels" placeholder="Search titles and labels" value=${text} maxlength="500" onInput=${(/** @type {any} */ event) => setText(event.currentTarget.value)} /></div>
    ${error && html`<${ErrorPanel} error=${error} again=${again} />`}
    ${!list && !error && html`<${Loading} lines=${12} />`}
    ${list && list.rows.length === 0 && html`<${Empty} title="No document matches"><p>Titles and labels are searched; take something away.</p></${Empty}>`}
    ${list && list.rows.length > 0 && html`<table class=${`plain-table ${loading ? "stale" : ""}`}>
      <thead><tr><th class="n">#</th><th>title</th><th>label</th><th>split</th><th class="n">tokens</th></tr></thead>
      <tbody>${list.rows.map((row) => html`<tr><td class="n quiet">${row.doc}</td><td><a href=${`${at(index)}/d/${row.doc}`}>${row.title || `document ${row.doc}`}</a></td>
        <td><button class="tag" onClick=${() => setText(row.corpus_label)}>${row.corpus_label}</button></td><td class="quiet">${row.split}</td><td class="n">${count(row.n_tokens)}</td></tr>`)}</tbody>
    </table>
    <nav class="pager">
      ${offset > 0 && html`<button onClick=${() => setQuery({ offset: Math.max(0, offset - PAGE) || null }, { push: true })}>Earlier</button>`}
      ${offset + PAGE < list.total && html`<button onClick=${() => setQuery({ offset: offset + PAGE }, { push: true })}>Later</button>`}
    </nav>`}
    ${list && html`<${Reproduce} recipe=${list.reproduce} json=${json} />`}`;
}
