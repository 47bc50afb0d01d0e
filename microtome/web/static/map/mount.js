// The stage on the page: it is made once for its points; what changes is handed to it. What is pointed at is named beside the pointer.
import { Stage } from "./stage.js";
import { get } from "../lib/api.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "../lib/dom.js";
import { percent } from "../lib/format.js";
import { address, at, go } from "../lib/place.js";

const PATIENCE = 60;

/**
 * @param {{ index: string, view: MapView, points: import("./points.js").Points, stage: { current: Stage | null }, start: import("./points.js").Camera,
 *   by: import("./draw.js").By, chosen: Uint8Array | null, only: number | null, lassoing: boolean, moved: (camera: any) => void, drawn: (some: readonly number[]) => void }} props
 */
export function MapStage({ index, view, points, stage, start, by, chosen, only, lassoing, moved, drawn }) {
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const [hover, setHover] = useState(/** @type {{ point: number, at: { x: number, y: number } | null }} */ ({ point: -1, at: null }));
  const told = useRef(/** @type {any} */ (null));
  told.current = { moved, drawn };
  useLayoutEffect(() => {
    if (!box.current) return;
    const made = new Stage(box.current, points, view.clusters, view.sites.length, start, {
      moved: (camera) => told.current.moved(camera),
      drawn: (some) => told.current.drawn(some),
      hovered: (point, spot) => setHover((before) => (before.point === point && point < 0 ? before : { point, at: spot })),
      clicked: (point) => go(`${at(index)}/f/${points.features[point]}`),
    });
    stage.current = made;
    return () => {
      made.stop();
      stage.current = null;
    };
  }, [points]);
  useLayoutEffect(() => {
    if (!stage.current) return;
    Object.assign(stage.current, { by, chosen, only });
    stage.current.repaint();
  }, [points, by, chosen, only]);
  useEffect(() => {
    if (stage.current) stage.current.lassoing = lassoing;
  }, [lassoing]);
  return html`<div class=${`atlas-stage${lassoing ? " lassoing" : ""}${hover.point >= 0 ? " on" : ""}`} ref=${box}>
    <canvas></canvas><canvas tabindex="0" role="application" aria-label="map of the features: arrows move, + and − zoom, Enter opens the feature in the middle, c goes through the clusters, l draws around"></canvas>
    ${hover.point >= 0 && hover.at && html`<${Tip} index=${index} view=${view} points=${points} point=${hover.point} at=${hover.at} width=${box.current?.clientWidth ?? 0} />`}</div>`;
}

/** @param {{ index: string, view: MapView, points: import("./points.js").Points, point: number, at: { x: number, y: number }, width: number }} props */
function Tip({ index, view, points, point, at: spot, width }) {
  const feature = points.features[point];
  const label = useLabel(index, feature);
  const cluster = view.clusters[points.cluster[point]];
  const side = spot.x > width / 2 ? { right: `${width - spot.x + 14}px` } : { left: `${spot.x + 14}px` };
  return html`<div class="atlas-tip" role="status" style=${{ ...side, top: `${spot.y + 12}px` }}><b>${feature}</b> ${label ?? "…"}
    <span>${percent(points.density[point])} of tokens${view.sites.length > 1 ? ` · ${view.sites[points.site[point]]}` : ""}</span>${cluster && html`<span>${cluster.label}</span>`}</div>`;
}

/** @type {Map<string, string>} */
const known = new Map();

/** The label of a feature, asked for when the pointer rests. @param {string} index @param {number} feature */
function useLabel(index, feature) {
  const key = `${index} ${feature}`;
  const [, tell] = useState("");
  useEffect(() => {
    if (known.has(key)) return;
    const stop = new AbortController();
    const timer = setTimeout(() => {
      get(address(`/api${at(index)}/features`, { filter: `feature = ${feature}`, limit: 1 }), stop.signal).then(
        (answer) => {
          known.set(key, answer.rows[0]?.label ?? "");
          tell(key);
        },
        () => null,
      );
    }, PATIENCE);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [key]);
  return known.get(key);
}
