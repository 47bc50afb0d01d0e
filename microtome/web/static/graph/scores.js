// What a graph explains and what it does not, always in sight.
import { html } from "../lib/dom.js";
import { num, percent } from "../lib/format.js";

/** Rows that add up to float32 rounding; above it the graph is not to be trusted. */
const BALANCED = 1e-4;

/** @param {{ view: import("./view.js").View }} props */
export function ScoreTiles({ view }) {
  const { scores } = view;
  const { balance } = scores;
  const isOff = balance !== null && balance > BALANCED;
  const tiles = [
    ["error share", percent(scores.error_share), "influence that comes from what the dictionaries leave unexplained"],
    ["replacement", percent(scores.replacement), "influence that comes from the tokens' embeddings, along paths through features"],
    ["completeness", percent(scores.completeness), "share of nodes' inputs that is explained, weighted by influence"],
    ["untraced", percent(scores.untraced), "influence that comes from features whose inputs were not traced, or from edges that were not stored"],
    ["balance", balance === null ? "not known" : num(balance), "largest relative gap between the sum of a node's inputs and its measured pre-activation: 0 is exact"],
  ];
  return html`<dl class="tiles scores">${tiles.map(([name, value, tip]) => html`<div data-tip=${tip} class=${name === "balance" && isOff ? "off" : ""}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
    ${isOff && html`<p class="flag" role="alert">The inputs of some nodes do not add up to what the model computed (by ${num(balance)} of it): weights in this graph may mislead.</p>`}`;
}
