// By what features of a text are ranked.
import { html } from "../lib/dom.js";
import { setQuery } from "../lib/place.js";

const RANKS = [
  ["specific", "specific", "strong here and rare elsewhere"],
  ["share", "% of max", "by the largest activation as a share of the feature's maximum"],
  ["max", "activation", "by the largest activation"],
  ["count", "tokens", "by the number of tokens it fires on"],
];

/** @param {{ rank: string }} props */
export const RankChoice = ({ rank }) =>
  html`<span class="choice" role="group" aria-label="rank by">${RANKS.map(([key, name, tip]) => html`<button aria-pressed=${rank === key} data-tip=${tip} onClick=${() => setQuery({ rank: key === "specific" ? null : key })}>${name}</button>`)}</span>`;
