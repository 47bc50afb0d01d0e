// Two graphs aligned by their tokens and subtracted: what only one of them has, and what both have differently.
import { download, pngOf, svgOf } from "./export.js";
import { layout } from "./layout.js";
import { linksOf } from "./links.js";
import { Picture } from "./picture.js";
import { twin } from "./run.js";
import { Slider } from "./sliders.js";
import { change, select } from "./state.js";
import { signed, title, where } from "./view.js";
import { Reproduce } from "../panels/reproduce.js";
import { ErrorPanel, Loading } from "../panels/states.js";
import { useAnswer } from "../lib/api.js";
import { html, useMemo, useRef, useState } from "../lib/dom.js";
import { count, num, percent, tokenText } from "../lib/format.js";
import { useKeys } from "../lib/keys.js";
import { address } from "../lib/place.js";
import { useWidth } from "../lib/width.js";

/** @typedef {import("./view.js").View} View */
/** @typedef {import("./state.js").State} State */
/** @typedef {{ name: string, kind: string, layer: number, column: number, feature: number, label: string, activation: readonly (number | null)[], influence: readonly number[] }} Shared a node in either prompt */
/** @typedef {{ source: number, target: number, weight: readonly (number | null)[], difference: number | null }} Edge */
/** @typedef {{ prompts: readonly string[], columns: readonly { pieces: readonly (string | null)[] }[], nodes: readonly Shared[], edges: readonly Edge[], cards: View["cards"], reproduce: View["reproduce"] }} Merged */

const FIRST = 12;
/** Colours of what is only in the first, and only in the second: none that a kind of node has. */
const HUES = [1, 3];

/** The choice of a second graph, beside the title. @param {{ name: string, against: string }} props */
export function Against({ name, against }) {
  const { value } = useAnswer("/api/graphs");
  const others = (/** @type {any} */ (value)?.graphs ?? []).filter((/** @type {any} */ one) => one.name !== name && !one.error);
  if (others.length === 0 && !against) return null;
  const set = (/** @type {any} */ event) => change({ against: event.currentTarget.value, at: null });
  return html`<label class="against">compare with <select id="against" value=${against} onChange=${set}><option value="">nothing</option>
    ${others.map((/** @type {any} */ one) => html`<option value=${one.name}>${one.summary.prompt || one.name}</option>`)}
    ${against && !others.some((/** @type {any} */ one) => one.name === against) && html`<option value=${against}>${against}</option>`}</select></label>`;
}

/** @param {{ view: View, state: State }} props */
export function Contrast({ view, state }) {
  const json = address(`${twin(view.name)}/contrast/${encodeURIComponent(state.against)}`, { node: state.node, edge: state.edge });
  const { value, error, loading, again } = useAnswer(json);
  const found = /** @type {Merged | null} */ (value);
  if (error) return html`<${ErrorPanel} error=${error} again=${again} />`;
  if (!found) return html`<${Loading} lines=${10} />`;
  return html`<div class=${loading ? "stale" : ""} id="contrast" aria-busy=${loading}><${Both} found=${found} view=${view} state=${state} /><${Reproduce} recipe=${found.reproduce} json=${json} what="contrast" /></div>`;
}

/** @param {{ found: Merged, view: View, state: State }} props */
function Both({ found, view, state }) {
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const width = useWidth(box);
  const shown = useMemo(() => asView(found, view), [found]);
  const links = useMemo(() => linksOf(shown), [shown]);
  const room = useMemo(() => layout(shown, () => true, { width, height: 620 }), [shown, width]);
  const at = links.byId.get(state.at) ?? -1;
  const scene = useMemo(() => {
    const grouped = new Map(found.nodes.flatMap((node, i) => (sideOf(node) < 0 ? [] : [[i, HUES[sideOf(node)]]])));
    return { view: shown, layout: room, links, strongest: links.strongest.slice(0, state.links), pinned: new Set(), grouped, found: null };
  }, [shown, room, links, state.links]);
  useKeys({ Escape: () => state.at && select("") });
  const id = (/** @type {number} */ node) => shown.nodes[node].id;
  const ways = [0, 1, -1].map((side) => found.nodes.flatMap((node, i) => (sideOf(node) === side && (side >= 0 || differs(node)) && node.kind !== "target" ? [i] : [])));
  const unknown = found.edges.filter((edge) => edge.difference === null).length;
  return html`<div class="columns desk">
    <div class="main-column"><section class="panel stage" ref=${box}>
      <div class="bar-head"><p class="legend"><span class="swatch hue${HUES[0]}"></span>only in the first <span class="swatch hue${HUES[1]}"></span>only in the second <span class="mark of-feature"></span>in both <span class="stroke up"></span>larger in the first <span class="stroke down"></span>in the second</p>
        <span class="tools"><button onClick=${() => download(svgOf(scene, at), `${view.slug}-contrast.svg`)}>SVG</button><button onClick=${() => pngOf(scene, at).then((blob) => download(blob, `${view.slug}-contrast.png`))}>PNG</button></span></div>
      <${Picture} scene=${scene} at=${at} height=${720} onSelect=${(/** @type {number} */ node) => select(node < 0 ? "" : id(node))} onPin=${() => undefined} onLasso=${() => undefined} />
      <p class="note">First: ${found.prompts[0]} (the scores above are its own) · second: ${found.prompts[1]}. ${count(found.nodes.length)} nodes and ${count(found.edges.length)} edges that either keeps at these thresholds, looked up in both.${unknown > 0 ? ` ${count(unknown)} edges are not known in one of them: their target was not expanded there.` : ""}</p>
    </section>
      <section class="panel sliders"><${Slider} name="node" label="Nodes for" value=${view.thresholds.node} unit="of influence" tip="in each graph, the fewest nodes that together carry this share of all influence on the output" />
        <${Slider} name="edge" label="Edges for" value=${view.thresholds.edge} unit="of theirs" tip="in each graph, the fewest edges among them that together carry this share" /></section></div>
    <aside class="side-column">
      ${at >= 0 && html`<${Selected} found=${found} shown=${shown} links=${links} at=${at} />`}
      <${Side} key="first" id="only-first" name="Only in the first" nodes=${ways[0]} found=${found} shown=${shown} at=${at} />
      <${Side} key="second" id="only-second" name="Only in the second" nodes=${ways[1]} found=${found} shown=${shown} at=${at} />
      <${Side} key="both" id="changed" name="Changed" nodes=${ways[2]} found=${found} shown=${shown} at=${at} />
    </aside></div>`;
}

/** In which of two prompts a node is alone; -1 where it is in both. @param {Shared} node */
const sideOf = ({ activation }) => (activation[1] === null ? 0 : activation[0] === null ? 1 : -1);

/** @param {Shared} node */
const differs = ({ activation, influence }) => influence[0] !== influence[1] || activation[0] !== activation[1];

/** The shared nodes as the picture draws them; edges by their difference. @param {Merged} found @param {View} view @returns {View} */
function asView(found, view) {
  const piece = (/** @type {string | null} */ text) => (text === null ? "–" : text);
  const tokens = found.columns.map(({ pieces }) => (pieces[0] === pieces[1] ? piece(pieces[0]) : `${piece(pieces[0])} / ${piece(pieces[1])}`));
  const nodes = found.nodes.map((node, i) => ({
    id: sideOf(node) === 1 ? `second ${node.name}` : node.name,
    kind: node.kind,
    layer: node.layer,
    position: node.kind === "target" ? tokens.length - 1 : node.column,
    feature: node.kind === "target" ? -1 : node.feature,
    activation: Math.max(node.activation[0] ?? 0, node.activation[1] ?? 0),
    influence: i,
    label: node.label,
    probability: null,
    expanded: true,
  }));
  const edges = found.edges.flatMap(({ source, target, difference }) => (difference === null ? [] : [/** @type {[number, number, number]} */ ([source, target, difference])]));
  return { ...view, tokens, nodes, edges, cards: found.cards };
}

/** @param {{ id: string, name: string, nodes: readonly number[], found: Merged, shown: View, at: number }} props */
function Side({ id, name, nodes, found, shown, at }) {
  const [all, setAll] = useState(false);
  const listed = all ? nodes : nodes.slice(0, FIRST);
  return html`<section class="panel side" id=${id}><h2>${name} <span class="quiet">${count(nodes.length)}</span></h2>
    ${nodes.length === 0 && html`<p class="quiet">Nothing.</p>`}
    <table class="mini"><tbody>${listed.map((i) => html`<tr class=${i === at ? "on" : ""}><td><button class="plain label" data-id=${shown.nodes[i].id} data-tip=${`${found.nodes[i].name} · ${where(shown, shown.nodes[i])}`} onClick=${() => select(shown.nodes[i].id)}>${title(shown, shown.nodes[i])}</button></td>
      <td class="quiet">${where(shown, shown.nodes[i])}</td><td data-tip="share of all influence, in the first and in the second">${found.nodes[i].influence.map((share, side) => (found.nodes[i].activation[side] === null ? "" : percent(share))).filter(Boolean).join(" → ")}</td></tr>`)}</tbody></table>
    ${listed.length < nodes.length && html`<button class="plain" onClick=${() => setAll(true)}>${count(nodes.length - listed.length)} more</button>`}</section>`;
}

/** @param {{ found: Merged, shown: View, links: import("./links.js").Links, at: number }} props */
function Selected({ found, shown, links, at }) {
  const node = found.nodes[at];
  const of = new Map(found.edges.map((edge) => [`${edge.source} ${edge.target}`, edge]));
  /** @param {string} name @param {readonly number[]} edges @param {0 | 1} end */
  const list = (name, edges, end) => html`<h3>${name} <span class="quiet">${count(edges.length)}</span></h3>${edges.length > 0 && html`<table class="mini"><thead><tr><th></th><th>first</th><th>second</th><th>difference</th></tr></thead>
    <tbody>${edges.slice(0, FIRST).map((edge) => {
      const [source, target, difference] = shown.edges[edge];
      const weights = of.get(`${source} ${target}`)?.weight ?? [];
      const other = shown.nodes[end === 0 ? source : target];
      return html`<tr><td><button class="plain label" data-id=${other.id} data-tip=${where(shown, other)} onClick=${() => select(other.id)}>${title(shown, other)}</button></td>${weights.map((weight) => html`<td>${weight === null ? "?" : signed(weight)}</td>`)}<td><b class=${difference < 0 ? "down" : "up"}>${signed(difference)}</b></td></tr>`;
    })}</tbody></table>`}`;
  return html`<section class="panel selected" id="selected"><div class="bar-head"><h2>${title(shown, shown.nodes[at])}</h2><button class="plain" onClick=${() => select("")} aria-label="deselect" data-tip="Esc">✕</button></div>
    <dl class="facts"><dt>node</dt><dd class="code">${node.name}</dd><dt>at</dt><dd>${where(shown, shown.nodes[at])}</dd>
      ${node.kind === "feature" && html`<dt>activation</dt><dd>${node.activation.map((one) => (one === null ? "silent" : num(one))).join(" → ")}</dd>`}
      ${node.column >= 0 && html`<dt>tokens</dt><dd>${found.columns[node.column].pieces.map((one) => (one === null ? "–" : tokenText(one))).join(" → ")}</dd>`}
      ${node.kind !== "target" && html`<dt>influence</dt><dd>${node.influence.map(percent).join(" → ")}</dd>`}</dl>
    ${list("Outputs", links.outputs[at], 1)}${list("Inputs", links.inputs[at], 0)}</section>`;
}
