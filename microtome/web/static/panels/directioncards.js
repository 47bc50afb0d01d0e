// The directions of a workspace, on the first page.
import { ErrorPanel } from "./states.js";
import { useAnswer } from "../lib/api.js";
import { isCopy } from "../lib/copy.js";
import { html } from "../lib/dom.js";
import { num } from "../lib/format.js";
import { directionAt } from "../lib/place.js";

/** @typedef {{ name: string, summary: Record<string, any>, error: any }} Entry */

export function DirectionCards() {
  const { value, error } = useAnswer(isCopy ? null : "/api/directions");
  const entries = /** @type {{ directions: readonly Entry[] } | null} */ (value)?.directions ?? [];
  if (error) return html`<${ErrorPanel} error=${error} />`;
  if (entries.length === 0) return null;
  return html`<h2 class="shelf">Directions</h2><div class="panel scroll"><table class="plain-table directions">
    <thead><tr><th>Direction</th><th>points</th><th>recipe</th><th>site</th><th class="n">length</th></tr></thead>
    <tbody>${entries.map((entry) => html`<tr><td><a href=${directionAt(entry.name)}>${entry.name}</a></td>
      ${entry.error
        ? html`<td colspan="4"><${ErrorPanel} error=${{ parts: entry.error }} /></td>`
        : html`<td>${entry.summary.sign}</td><td>${entry.summary.recipe}</td><td>${entry.summary.site}</td><td class="n">${num(entry.summary.norm)}</td>`}</tr>`)}</tbody></table></div>`;
}
