// The workspace: which indexes, graphs and directions there are.
import { GraphCards } from "../graph/cards.js";
import { DirectionCards } from "../panels/directioncards.js";
import { Empty, ErrorPanel, Loading } from "../panels/states.js";
import { Reproduce } from "../panels/reproduce.js";
import { useAnswer } from "../lib/api.js";
import { html } from "../lib/dom.js";
import { count } from "../lib/format.js";
import { at } from "../lib/place.js";

export function HomePage() {
  const { value, error, again } = useAnswer("/api");
  const list = /** @type {any} */ (value);
  if (error) return html`<${ErrorPanel} error=${error} again=${again} />`;
  if (!list) return html`<${Loading} />`;
  const others = Object.entries(list.artifacts).filter(([, names]) => /** @type {string[]} */ (names).length > 0);
  return html`<header class="title"><h1>Workspace</h1><p class="quiet path">${list.workspace}</p></header>
    ${list.indexes.length === 0 && html`<${Empty} title="No feature index yet">
      <p>An index shows what each feature of a dictionary responds to. Make one with</p><pre><code>microtome index …</code></pre><p>or all steps on the demo model with <code>microtome demo</code>.</p></${Empty}>`}
    <ul class="cards">${list.indexes.map((/** @type {any} */ entry) => html`<li class="panel">
      ${entry.error
        ? html`<h2>${entry.name}</h2><${ErrorPanel} error=${{ parts: entry.error }} />`
        : html`<h2><a href=${at(entry.name)}>${entry.name}</a></h2><dl class="facts">${Object.entries(entry.summary).filter(([, fact]) => typeof fact !== "object").map(([name, fact]) => html`<dt>${name}</dt><dd>${typeof fact === "number" ? count(fact) : fact}</dd>`)}</dl>
          <p><a href=${at(entry.name)}>Overview</a> · <a href=${`${at(entry.name)}/features`}>Features</a> · <a href=${`${at(entry.name)}/documents`}>Documents</a></p>`}
    </li>`)}</ul>
    <${GraphCards} />
    <${DirectionCards} />
    ${others.length > 0 && html`<p class="quiet">Also here: ${others.map(([kind, names]) => `${kind} ${/** @type {string[]} */ (names).join(", ")}`).join(" · ")}.</p>`}
    <${Reproduce} recipe=${list.reproduce} json="/api" />`;
}
