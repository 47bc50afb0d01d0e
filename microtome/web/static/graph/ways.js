// The strongest paths from the selected node to an output.
import { ErrorPanel } from "../panels/states.js";
import { ReproduceFold } from "../panels/reproduce.js";
import { PAUSE, useAnswer } from "../lib/api.js";
import { html } from "../lib/dom.js";
import { percent } from "../lib/format.js";
import { address } from "../lib/place.js";
import { select, togglePins } from "./state.js";
import { signed, title, where } from "./view.js";

/** @typedef {{ nodes: readonly string[], weights: readonly number[], strength: number, sign: number }} Way */

/** @param {{ view: import("./view.js").View, links: import("./links.js").Links, at: number, state: import("./state.js").State }} props */
export function WaysPanel({ view, links, at, state }) {
  const node = view.nodes[at];
  const target = likeliest(view);
  const json = address(`/api/graphs/${encodeURIComponent(view.name)}/paths`, { source: node.id, target: target?.id });
  const { value, error } = useAnswer(target && node.kind !== "target" ? json : null, undefined, PAUSE);
  const answer = /** @type {{ paths: readonly Way[], reproduce: any } | null} */ (value);
  if (!target || node.kind === "target") return null;
  const name = (/** @type {string} */ id) => {
    const place = links.byId.get(id);
    return place === undefined ? { text: id, note: "hidden at these thresholds" } : { text: title(view, view.nodes[place]), note: `${id} · ${where(view, view.nodes[place])}` };
  };
  return html`<section class="panel" id="ways"><h2>Strongest paths to ${title(view, target)}</h2>
    ${error && html`<${ErrorPanel} error=${error} />`}
    ${answer?.paths.length === 0 && html`<p class="quiet">No path leads there.</p>`}
    <ol class="ways-list">${answer?.paths.map((way) => html`<li><span class="value" data-tip="share of the output's input that comes along this path"> ${percent(way.strength)} <small>${way.sign < 0 ? "lowers" : "raises"}</small></span>
      <span>${way.nodes.map((id, i) => html`${i > 0 && html` <span class=${way.weights[i - 1] < 0 ? "down" : "up"} data-tip=${signed(way.weights[i - 1])}>→</span> `}<button class="plain" onClick=${() => links.byId.has(id) && select(id)} data-tip=${name(id).note}>${name(id).text}</button>`)}</span>
      <button class="plain" onClick=${() => togglePins(state, way.nodes)}>pin</button></li>`)}</ol>
    ${answer && html`<${ReproduceFold} recipe=${answer.reproduce} json=${json} />`}</section>`;
}

/** @param {import("./view.js").View} view */
const likeliest = (view) => view.nodes.filter((node) => node.kind === "target").sort((a, b) => (b.probability ?? 0) - (a.probability ?? 0))[0];
