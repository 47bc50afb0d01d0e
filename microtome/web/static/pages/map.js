// Where the features lie: a map of what they write, coloured, searched, drawn around; a click leads to the feature.
import { MapSide } from "../map/side.js";
import { MapStage } from "../map/mount.js";
import { Reproduce } from "../panels/reproduce.js";
import { Empty, ErrorPanel, Loading } from "../panels/states.js";
import { get, useAnswer } from "../lib/api.js";
import { useDebounced } from "../lib/debounce.js";
import { html, useEffect, useMemo, useRef, useState } from "../lib/dom.js";
import { count, percent } from "../lib/format.js";
import { useKeys } from "../lib/keys.js";
import { address, at, go, place, setQuery } from "../lib/place.js";
import { WHOLE, pointsOf } from "../map/points.js";

/** @typedef {import("../map/draw.js").By} By */

const PAN = 90;
const KEPT_AT = 350;
const COLOURS = /** @type {readonly [By, string, string][]} */ ([["cluster", "cluster", "features that lie together"], ["density", "density", "how often it fires, logarithmic"], ["kind", "label", "the kind of rule that labels it"], ["site", "layer", "where it reads"]]);

/** @param {{ index: string }} props */
export function MapPage({ index }) {
  const json = `/api${at(index)}/map`;
  const { value, error, again } = useAnswer(json);
  const answer = /** @type {any} */ (value);
  useEffect(() => void (document.title = `Map · ${index}`), [index]);
  if (error) return html`<${ErrorPanel} error=${error} again=${again} />`;
  if (!answer) return html`<${Loading} lines=${12} />`;
  if (answer.map === null) return html`<header class="title"><h1>Map</h1></header><${Empty} title="No map of this index yet"><p>It is computed once, in a minute or so, and kept in the workspace:</p><pre><code>${answer.command}</code></pre><p><button onClick=${again}>Look again</button></p></${Empty}><${Reproduce} recipe=${answer.reproduce} json=${json} />`;
  return html`<${Drawn} index=${index} view=${answer} json=${json} />`;
}

/** @param {string | null} text */
function cameraOf(text) {
  const [x, y, zoom] = (text ?? "").split(",").map(Number);
  return [x, y, zoom].every(Number.isFinite) && zoom > 0 ? { x, y, zoom } : WHOLE;
}

/** @param {{ index: string, view: MapView & { reproduce: any }, json: string }} props */
function Drawn({ index, view, json }) {
  const { query } = place.value;
  const points = useMemo(() => pointsOf(view), [view]);
  const stage = useRef(/** @type {import("../map/stage.js").Stage | null} */ (null));
  const [lassoing, setLassoing] = useState(false);
  const [picked, setPicked] = useState(/** @type {readonly number[] | null} */ (null));
  const by = /** @type {By} */ (COLOURS.some(([key]) => key === query.get("by")) ? query.get("by") : "cluster");
  const cluster = query.get("cluster") === null ? null : Number(query.get("cluster"));
  const [find, setFind] = useDebounced(query.get("find") ?? "", (text) => setQuery({ find: text }));
  const { found, problem } = useFound(index, query.get("find") ?? "", query.get("list") ?? "");
  const chosen = useMemo(() => standing(points, { picked, cluster, found }), [points, picked, cluster, found]);
  const timer = useRef(0);
  /** @param {{ x: number, y: number, zoom: number }} camera */
  const moved = (camera) => {
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setQuery({ at: `${camera.x.toFixed(4)},${camera.y.toFixed(4)},${camera.zoom.toFixed(2)}` }), KEPT_AT);
  };
  useEffect(() => () => clearTimeout(timer.current), []);
  /** @param {number} number */
  const show = (number) => {
    const one = view.clusters[number];
    if (!one) return;
    setPicked(null);
    setQuery({ cluster: number });
    stage.current?.look({ x: one.x, y: one.y, zoom: Math.max(3, stage.current.camera.zoom) });
  };
  const clear = () => {
    setPicked(null);
    setLassoing(false);
    setQuery({ cluster: null, find: null, list: null });
    setFind("");
  };
  const turn = (/** @type {number} */ step) => view.clusters.length && show(((cluster ?? (step > 0 ? -1 : 0)) + step + view.clusters.length) % view.clusters.length);
  useKeys({
    ArrowLeft: () => stage.current?.steer(PAN, 0), ArrowRight: () => stage.current?.steer(-PAN, 0), ArrowUp: () => stage.current?.steer(0, PAN), ArrowDown: () => stage.current?.steer(0, -PAN),
    "+": () => stage.current?.steer(0, 0, 1.5), "=": () => stage.current?.steer(0, 0, 1.5), "-": () => stage.current?.steer(0, 0, 1 / 1.5), 0: () => stage.current?.look(WHOLE),
    l: () => setLassoing((on) => !on), c: () => turn(1), C: () => turn(-1), Escape: clear,
    Enter: () => stage.current && stage.current.hover >= 0 && go(`${at(index)}/f/${points.features[stage.current.hover]}`),
  });
  const colours = COLOURS.filter(([key]) => key !== "site" || view.sites.length > 1);
  const shown = chosen ? chosen.reduce((n, one) => n + one, 0) : points.n;
  return html`<article class="atlas">
    <header class="title"><h1>Map</h1><p class="quiet" aria-live="polite">${chosen ? `${count(shown)} of ` : ""}${count(points.n)} features that fire, ${count(view.clusters.length)} clusters</p></header>
    <div class="controls"><span class="choice" role="group" aria-label="colour">${colours.map(([key, name, tip]) => html`<button aria-pressed=${by === key} data-tip=${tip} onClick=${() => setQuery({ by: key === "cluster" ? null : key })}>${name}</button>`)}</span>
      <input type="search" aria-label="find labels" placeholder="Find in labels" value=${find} maxlength="200" onInput=${(/** @type {any} */ event) => setFind(event.currentTarget.value)} />
      <button aria-pressed=${lassoing} class=${lassoing ? "main" : ""} data-tip="draw around features (l, or shift)" onClick=${() => setLassoing((on) => !on)}>Lasso</button>
      <button aria-label="zoom in" data-tip="+" onClick=${() => stage.current?.steer(0, 0, 1.5)}>+</button><button aria-label="zoom out" data-tip="−" onClick=${() => stage.current?.steer(0, 0, 1 / 1.5)}>−</button><button data-tip="0" onClick=${() => stage.current?.look(WHOLE)}>Whole</button>
      ${chosen && html`<button data-tip="Esc" onClick=${clear}>Clear</button>`}</div>
    ${problem && html`<${ErrorPanel} error=${problem} />`}
    ${query.get("list") && html`<p class="note">On the list “${query.get("list")}”.</p>`}
    <div class="desk"><${MapStage} index=${index} view=${view} points=${points} stage=${stage} start=${cameraOf(query.get("at"))} by=${by} chosen=${chosen} only=${picked ? null : cluster} lassoing=${lassoing}
        moved=${moved} drawn=${(/** @type {readonly number[]} */ some) => { setPicked(some); setLassoing(false); }} />
      <${MapSide} index=${index} view=${view} points=${points} by=${by} picked=${picked} cluster=${cluster} found=${found} show=${show} /></div>
    <p class="note">Each point is a feature; near ones write in nearly the same direction. Of the 15 features with the most similar directions ${percent(view.facts.neighbours_kept)} are among the 15 nearest here (${percent(view.facts.by_chance)} by chance): far apart means little. ${percent(view.facts.outside)} are in no cluster. Names are computed from tokens and rule labels, not by a model.</p>
    <${Reproduce} recipe=${view.reproduce} json=${json} />
  </article>`;
}

/** What a search in the labels, or a list, holds: a set of feature numbers, null without either. @param {string} index @param {string} find @param {string} list */
function useFound(index, find, list) {
  const [state, setState] = useState(/** @type {{ found: ReadonlySet<number> | null, problem: any }} */ ({ found: null, problem: null }));
  useEffect(() => {
    if (!find.trim() && !list) {
      setState({ found: null, problem: null });
      return;
    }
    const stop = new AbortController();
    const filter = list ? `list = ${JSON.stringify(list)}` : "";
    get(address(`/api${at(index)}/select`, { search: find.trim(), filter }), stop.signal).then(
      (answer) => setState({ found: new Set(answer.features), problem: null }),
      (error) => stop.signal.aborted || setState({ found: new Set(), problem: error }),
    );
    return () => stop.abort();
  }, [index, find, list]);
  return state;
}

/** Which points stand out: those drawn around, else those that pass both the search and the cluster; null for all.
 * @param {import("../map/points.js").Points} points @param {{ picked: readonly number[] | null, cluster: number | null, found: ReadonlySet<number> | null }} by */
function standing(points, { picked, cluster, found }) {
  if (!picked && cluster === null && !found) return null;
  const chosen = new Uint8Array(points.n);
  if (picked) for (const i of picked) chosen[i] = 1;
  else for (let i = 0; i < points.n; i++) chosen[i] = Number((cluster === null || points.cluster[i] === cluster) && (!found || found.has(points.features[i])));
  return chosen;
}
