// Find features by texts: by one, by several with and without something, by a token, by two sets to tell apart, by a label.
import { FindByPrompts } from "../panels/findbyprompts.js";
import { FindBySets } from "../panels/findbysets.js";
import { FindByText } from "../panels/findbytext.js";
import { FindByToken } from "../panels/findbytoken.js";
import { html, useEffect } from "../lib/dom.js";
import { at, place, setQuery } from "../lib/place.js";

/** @type {readonly [string, string, string, (props: any) => any][]} */
const WAYS = [
  ["", "a text", "features that fire on a text", FindByText],
  ["prompts", "prompts", "features that fire on all of some prompts and on none of others", FindByPrompts],
  ["sets", "two sets", "features that tell two small sets of texts apart", FindBySets],
  ["token", "a token", "features that fire on a token", FindByToken],
];

/** @param {{ index: string }} props */
export function SearchPage({ index }) {
  const by = place.value.query.get("by") ?? "";
  const way = WAYS.find(([key]) => key === by) ?? WAYS[0];
  useEffect(() => void (document.title = `Find by text · ${index}`), [index]);
  const Way = way[3];
  return html`<header class="title"><h1>Find features by a text</h1><a class="mode" href=${`${at(index)}/features`}>← table of all features</a></header>
    <p class="ways"><span class="choice" role="group" aria-label="find by">${WAYS.map(([key, name, tip]) => html`<button aria-pressed=${key === way[0]} data-tip=${tip} onClick=${() => setQuery({ by: key }, { push: true })}>${name}</button>`)}</span>
      <span class="quiet">${way[2]}</span></p>
    <${Way} index=${index} />`;
}
