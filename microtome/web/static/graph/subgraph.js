// The pinned nodes and supernodes alone, with what each feeds the others; drawn as SVG, a box a supernode.
import { ErrorPanel } from "../panels/states.js";
import { ReproduceFold } from "../panels/reproduce.js";
import { useAnswer } from "../lib/api.js";
import { html } from "../lib/dom.js";
import { percent } from "../lib/format.js";
import { address } from "../lib/place.js";
import { change, groupOf, select, togglePins } from "./state.js";
import { signed, title, where } from "./view.js";

/** @typedef {import("./view.js").View} View */
/** @typedef {import("./state.js").State} State */
/** @typedef {{ name: string, ids: readonly string[], text: string, note: string, layer: number, position: number, hue: number }} Block */
/** @typedef {{ source: string, target: string, share: number, signed: number, weight: number }} GroupEdge */
/** @typedef {{ edges: readonly GroupEdge[], scores: { replacement: number, completeness: number }, reproduce: any }} Answer */

const BLOCK = { width: 148, height: 34, gap: 18, rise: 62 };

/** @param {{ view: View, links: import("./links.js").Links, state: State }} props */
export function Subgraph({ view, links, state }) {
  const blocks = blocksOf(view, links, state);
  const json = address(`/api/graphs/${encodeURIComponent(view.name)}/subgraph`, { groups: JSON.stringify(blocks.map(({ name, ids }) => ({ name, members: ids }))) });
  const { value, error, loading } = useAnswer(blocks.length > 0 ? json : null);
  const answer = /** @type {Answer | null} */ (value);
  if (state.pins.length === 0) {
    return html`<section class="panel" id="subgraph"><h2>Subgraph</h2><p class="quiet">Pin nodes (<kbd>p</kbd>, or Shift and click) to see them alone with what they feed each other; drag around nodes in the picture to gather them in a supernode.</p></section>`;
  }
  const missing = state.pins.filter((id) => !links.byId.has(id)).length;
  return html`<section class="panel" id="subgraph">
    <div class="bar-head"><h2>Subgraph <span class="quiet">${blocks.length} ${blocks.length === 1 ? "block" : "blocks"}</span></h2>
      ${answer && html`<span class="quiet" data-tip="influence that reaches the output from the tokens with every feature outside the subgraph counted as error">replacement ${percent(answer.scores.replacement)} · completeness ${percent(answer.scores.completeness)}</span>`}
      <button onClick=${() => change({ pins: null, groups: null })}>Clear</button></div>
    ${missing > 0 && html`<p class="note">${missing} pinned ${missing === 1 ? "node is" : "nodes are"} hidden at these thresholds.</p>`}
    ${error && html`<${ErrorPanel} error=${error} />`}
    <div class="${loading ? "stale" : ""}"><${Drawing} blocks=${blocks} edges=${answer?.edges ?? []} state=${state} /></div>
    ${answer && answer.edges.length > 0 && html`<table class="mini"><thead><tr><th>from</th><th>to</th><th data-tip="share of the target's input that comes from the source, averaged over members by influence">share</th><th data-tip="the same with signs: what supports less what inhibits">signed</th><th data-tip="sum of the direct effects">weight</th></tr></thead>
      <tbody>${answer.edges.slice(0, 40).map((edge) => html`<tr class="edge"><td>${textOf(blocks, edge.source)}</td><td>${textOf(blocks, edge.target)}</td><td>${percent(edge.share)}</td><td>${edge.signed < 0 ? "−" : "+"}${percent(Math.abs(edge.signed))}</td><td>${signed(edge.weight)}</td></tr>`)}</tbody></table>`}
    ${answer && html`<${ReproduceFold} recipe=${answer.reproduce} json=${json} />`}
  </section>`;
}

/** @param {readonly Block[]} blocks @param {string} name */
const textOf = (blocks, name) => blocks.find((block) => block.name === name)?.text ?? name;

/** A block a supernode, and one a pinned node that is in none. @param {View} view @param {import("./links.js").Links} links @param {State} state @returns {Block[]} */
function blocksOf(view, links, state) {
  const shown = state.pins.filter((id) => links.byId.has(id));
  const node = (/** @type {string} */ id) => view.nodes[/** @type {number} */ (links.byId.get(id))];
  const groups = state.groups.flatMap((group, i) => {
    const ids = group.ids.filter((id) => shown.includes(id));
    if (ids.length === 0) return [];
    const mean = (/** @type {(id: string) => number} */ of) => ids.reduce((sum, id) => sum + of(id), 0) / ids.length;
    return [{ name: group.name, ids, text: group.name, note: ids.length === 1 ? "1 node" : `${ids.length} nodes`, layer: mean((id) => node(id).layer), position: mean((id) => node(id).position), hue: i % 6 }];
  });
  const alone = shown.filter((id) => groupOf(state, id) < 0).map((id) => ({ name: id, ids: [id], text: title(view, node(id)), note: where(view, node(id)), layer: node(id).layer, position: node(id).position, hue: -1 }));
  return [...groups, ...alone];
}

/** Rows by layer, in a row by token; nodes of one layer share it. @param {readonly Block[]} blocks @returns {Map<string, { x: number, y: number }>} */
function spots(blocks) {
  const layers = [...new Set(blocks.map((block) => Math.round(block.layer)))].sort((a, b) => b - a);
  const spots = new Map();
  layers.forEach((layer, row) => {
    const here = blocks.filter((block) => Math.round(block.layer) === layer).sort((a, b) => a.position - b.position);
    here.forEach((block, i) => spots.set(block.name, { x: i, y: row, of: here.length }));
  });
  const widest = Math.max(...[...spots.values()].map((spot) => spot.of));
  for (const [name, spot] of spots) spots.set(name, { x: ((spot.x + (widest - spot.of) / 2) * (BLOCK.width + BLOCK.gap)) + 2, y: spot.y * BLOCK.rise + 2 });
  return spots;
}

/** @param {{ blocks: readonly Block[], edges: readonly GroupEdge[], state: State }} props */
function Drawing({ blocks, edges, state }) {
  const at = spots(blocks);
  const width = Math.max(...[...at.values()].map((spot) => spot.x)) + BLOCK.width + 2;
  const height = Math.max(...[...at.values()].map((spot) => spot.y)) + BLOCK.height + 2;
  return html`<div class="drawing"><svg width=${width} height=${height} viewBox=${`0 0 ${width} ${height}`} role="img" aria-label=${`${blocks.length} blocks, ${edges.length} edges between them`}>
    ${[...edges].reverse().map((edge) => {
      const [from, to] = [at.get(edge.source), at.get(edge.target)];
      if (!from || !to) return null;
      const [x, y, X, Y] = [from.x + BLOCK.width / 2, from.y, to.x + BLOCK.width / 2, to.y + BLOCK.height];
      const bend = Math.max(12, (y - Y) / 2);
      return html`<path class=${edge.signed < 0 ? "down" : "up"} d=${`M${x} ${y}C${x} ${y - bend} ${X} ${Y + bend} ${X} ${Y}`} stroke-width=${0.8 + 7 * edge.share} opacity=${Math.min(1, 0.25 + 1.5 * edge.share)}
        data-tip=${`${textOf(blocks, edge.source)} → ${textOf(blocks, edge.target)}: ${percent(edge.share)} of its input, weight ${signed(edge.weight)}`} />`;
    })}
    ${blocks.map((block) => {
      const spot = at.get(block.name);
      const isOne = block.hue < 0;
      /** @param {MouseEvent} event */
      const pick = (event) => (event.shiftKey ? togglePins(state, block.ids) : select(block.ids[0]));
      return html`<g transform=${`translate(${spot?.x} ${spot?.y})`} class=${`block ${isOne ? "" : `hue${block.hue}`}`} onClick=${pick} data-tip=${`${block.text}\n${block.note}${isOne ? "" : `\n${block.ids.join("\n")}`}`}>
        <rect width=${BLOCK.width} height=${BLOCK.height} rx="7" /><text x=${BLOCK.width / 2} y="14">${short(block.text, 22)}</text><text class="note" x=${BLOCK.width / 2} y="27">${short(block.note, 28)}</text></g>`;
    })}</svg></div>`;
}

/** @param {string} text @param {number} most */
const short = (text, most) => ([...text].length <= most ? text : `${[...text].slice(0, most - 1).join("")}…`);
