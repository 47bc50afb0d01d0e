// One attribution graph: the picture, what is selected in it, and what the thresholds hide.
import { ActPanel } from "../graph/act.js";
import { CardPanel } from "../graph/card.js";
import { Against, Contrast } from "../graph/contrast.js";
import { download, pngOf, svgOf } from "../graph/export.js";
import { GroupList, LassoBar } from "../graph/groups.js";
import { layout } from "../graph/layout.js";
import { linksOf } from "../graph/links.js";
import { NodeList, matches } from "../graph/list.js";
import { Picture } from "../graph/picture.js";
import { ScoreTiles } from "../graph/scores.js";
import { SelectedPanel } from "../graph/selected.js";
import { Sliders } from "../graph/sliders.js";
import { canRedo, canUndo, forget, readState, redo, select, togglePins, undo } from "../graph/state.js";
import { Subgraph } from "../graph/subgraph.js";
import { SwapsPanel } from "../graph/swaps.js";
import { TargetsPanel } from "../graph/targets.js";
import { TestedPanel } from "../graph/tested.js";
import { WaysPanel } from "../graph/ways.js";
import { Reproduce } from "../panels/reproduce.js";
import { Empty, ErrorPanel, Loading } from "../panels/states.js";
import { useAnswer } from "../lib/api.js";
import { html, useEffect, useMemo, useRef, useState } from "../lib/dom.js";
import { count } from "../lib/format.js";
import { useKeys } from "../lib/keys.js";
import { address, place } from "../lib/place.js";
import { useWidth } from "../lib/width.js";

/** @typedef {import("../graph/view.js").View} View */

/** @param {{ name: string }} props */
export function GraphPage({ name }) {
  const state = readState(place.value.query);
  const json = address(`/api/graphs/${encodeURIComponent(name)}`, { node: state.node, edge: state.edge, density: state.density });
  const { value, error, loading, again } = useAnswer(json);
  const view = /** @type {View | null} */ (value);
  useEffect(() => forget(), [name]);
  useEffect(() => void (document.title = `${view?.prompt ?? name} · graph`), [view, name]);
  if (error) return html`<${ErrorPanel} error=${error} again=${again} />`;
  if (!view) return html`<${Loading} lines=${14} />`;
  return html`<article class=${`graph ${loading ? "stale" : ""}`} aria-busy=${loading}>
    <header class="title"><h1 title=${view.prompt}>${view.prompt || view.slug}</h1><p class="quiet">${view.name} · ${view.model} · ${count(view.tokens.length)} ${view.columns === "turns" ? "columns of turns" : "tokens"}</p><${Against} name=${name} against=${state.against} /></header>
    <${ScoreTiles} view=${view} />
    ${view.edges.length === 0 && html`<${Empty} title="No edge is left"><p>The targets of this graph have no inputs at these thresholds.</p></${Empty}>`}
    ${state.against ? html`<${Contrast} view=${view} state=${state} />` : html`<${Desk} view=${view} state=${state} again=${again} />`}
    ${!state.against && html`<${Reproduce} recipe=${view.reproduce} json=${json} />`}
  </article>`;
}

/** @param {{ view: View, state: import("../graph/state.js").State, again: () => void }} props */
function Desk({ view, state, again }) {
  const desk = useRef(/** @type {HTMLDivElement | null} */ (null));
  const width = useWidth(desk);
  const [caught, setCaught] = useState(/** @type {readonly string[]} */ ([]));
  const links = useMemo(() => linksOf(view), [view]);
  const order = useMemo(() => [...view.nodes.keys()].sort((a, b) => view.nodes[a].influence - view.nodes[b].influence), [view]);
  const room = useMemo(() => layout(view, () => true, { width, height: 620 }), [view, width]);
  const found = useMemo(() => matches(view, state.find), [view, state.find]);
  const at = links.byId.get(state.at) ?? -1;
  const marks = `${place.value.query.get("pins")} ${place.value.query.get("groups")}`;
  const scene = useMemo(() => {
    const pinned = new Set(state.pins.flatMap((id) => links.byId.get(id) ?? []));
    const grouped = new Map(state.groups.flatMap((group, i) => group.ids.flatMap((id) => (links.byId.has(id) ? [[/** @type {number} */ (links.byId.get(id)), i]] : []))));
    return { view, layout: room, links, strongest: links.strongest.slice(0, state.links), pinned, grouped: /** @type {Map<number, number>} */ (grouped), found };
  }, [view, room, links, found, state.links, marks]);
  useEffect(() => setCaught([]), [view]);
  useGraphKeys({ view, links, at, order, state });
  const id = (/** @type {number} */ node) => view.nodes[node].id;
  return html`<div class="columns desk">
    <div class="main-column">
      <section class="panel stage" ref=${desk}>
        <div class="bar-head"><${Legend} />
          <span class="tools"><button disabled=${!canUndo()} onClick=${undo} data-tip="u">Undo</button><button disabled=${!canRedo()} onClick=${redo} data-tip="U">Redo</button>
            <button onClick=${() => download(svgOf(scene, at), `${view.slug}.svg`)}>SVG</button><button onClick=${() => pngOf(scene, at).then((blob) => download(blob, `${view.slug}.png`))}>PNG</button></span></div>
        <${Picture} scene=${scene} at=${at} height=${720} onSelect=${(/** @type {number} */ node) => (node < 0 ? select("") : select(id(node)))}
          onPin=${(/** @type {number} */ node) => togglePins(state, [id(node)])} onLasso=${(/** @type {number[]} */ nodes) => setCaught(nodes.map(id))} />
        ${caught.length > 0 && html`<${LassoBar} ids=${caught} state=${state} onDone=${() => setCaught([])} />`}
        ${state.at && at < 0 && html`<p class="note" role="status">The selected node ${state.at} is hidden at these thresholds.</p>`}
      </section>
      <${Sliders} view=${view} state=${state} hasDensities=${view.has_densities} />
      <${Subgraph} view=${view} links=${links} state=${state} />
      ${view.columns === "turns" ? html`<p class="note">Interventions and tests are made by tokens: see <a href=${`/g/${encodeURIComponent(`${view.name}-tokens`)}`}>${view.name}-tokens</a>, the same graph with a column a token, which <code>microtome trace --turns</code> keeps unless its dictionary is of turns.</p>` : html`<${ActPanel} view=${view} links=${links} at=${at} state=${state} />
      <${TestedPanel} view=${view} known=${(/** @type {string} */ one) => links.byId.has(one)} again=${again} />
      <${SwapsPanel} view=${view} />`}
    </div>
    <aside class="side-column">
      ${at >= 0 ? html`<${SelectedPanel} view=${view} links=${links} at=${at} state=${state} /><${WaysPanel} view=${view} links=${links} at=${at} state=${state} /><${CardPanel} view=${view} node=${view.nodes[at]} />` : html`<${TargetsPanel} view=${view} at=${at} />`}
      <${GroupList} view=${view} state=${state} known=${(/** @type {string} */ one) => links.byId.has(one)} />
      <${NodeList} view=${view} found=${found} order=${order} at=${at} state=${state} />
      ${at >= 0 && html`<${TargetsPanel} view=${view} at=${at} />`}
    </aside>
  </div>`;
}

const Legend = () => html`<p class="legend"><span class="mark of-feature"></span>feature <span class="mark of-error"></span>error <span class="mark of-bias"></span>bias <span class="mark of-embedding"></span>token <span class="mark of-target"></span>output
  <span class="stroke up"></span>raises <span class="stroke down"></span>lowers</p>`;

/** @param {{ view: View, links: import("../graph/links.js").Links, at: number, order: readonly number[], state: import("../graph/state.js").State }} props */
function useGraphKeys({ view, links, at, order, state }) {
  /** @param {number} step */
  const walk = (step) => {
    const next = at < 0 ? order[0] : order[order.indexOf(at) + step];
    if (next !== undefined) select(view.nodes[next].id);
  };
  /** @param {readonly (readonly number[])[]} lists @param {0 | 1} end */
  const follow = (lists, end) => {
    const edge = at < 0 ? undefined : lists[at][0];
    if (edge !== undefined) select(view.nodes[view.edges[edge][end]].id);
  };
  useKeys({
    j: () => walk(1),
    k: () => walk(-1),
    i: () => follow(links.inputs, 0),
    n: () => follow(links.outputs, 1),
    p: () => at >= 0 && togglePins(state, [view.nodes[at].id]),
    u: undo,
    U: redo,
    Escape: () => state.at && select(""),
  });
}
