// The graphs of a workspace, on the first page.
import { ErrorPanel } from "../panels/states.js";
import { useAnswer } from "../lib/api.js";
import { isCopy } from "../lib/copy.js";
import { html } from "../lib/dom.js";
import { count } from "../lib/format.js";

/** @typedef {{ name: string, summary: Record<string, any>, error: any }} Entry */

export function GraphCards() {
  const { value, error } = useAnswer(isCopy ? null : "/api/graphs");
  const graphs = /** @type {{ graphs: readonly Entry[] } | null} */ (value)?.graphs ?? [];
  if (error) return html`<${ErrorPanel} error=${error} />`;
  if (graphs.length === 0) return null;
  return html`<h2 class="shelf">Graphs</h2><ul class="cards graphs">${graphs.map((entry) => html`<li class="panel">
    ${entry.error
      ? html`<h2>${entry.name}</h2><${ErrorPanel} error=${{ parts: entry.error }} />`
      : html`<h2><a href=${`/g/${encodeURIComponent(entry.name)}`}>${entry.summary.prompt || entry.name}</a></h2>
        <p class="quiet">${entry.name}${entry.summary.model ? ` · ${entry.summary.model}` : ""} · ${count(entry.summary.nodes ?? 0)} nodes · ${count(entry.summary.edges ?? 0)} edges</p>`}</li>`)}</ul>`;
}
