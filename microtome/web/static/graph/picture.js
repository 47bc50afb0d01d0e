// The picture: hover to see links, click to select, drag around nodes to gather them. Only what is in sight is drawn.
import { html, useEffect, useLayoutEffect, useRef, useState } from "../lib/dom.js";
import { coloursOf, drawFocus, drawGround, drawNames, drawNodes } from "./draw.js";
import { inside, nearest, neighbour } from "./layout.js";
import { canvasPen } from "./pens.js";
import { about, signed, where, title } from "./view.js";

/** @typedef {import("./draw.js").Scene} Scene */

const ARROWS = /** @type {Record<string, readonly [number, number]>} */ ({ ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] });

/**
 * @param {{ scene: Scene, at: number, height: number, onSelect: (node: number) => void, onPin: (node: number) => void, onLasso: (nodes: number[]) => void }} props
 *   `at` is the selected node, -1 for none
 */
export function Picture({ scene, at, height, onSelect, onPin, onLasso }) {
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const ground = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  const marks = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  const [hovered, setHovered] = useState(-1);
  const lasso = useRef(/** @type {[number, number][]} */ ([]));
  const [drawn, setDrawn] = useState(0);
  const seen = useSeen(box);
  const theme = useTheme();
  const focus = at >= 0 ? at : hovered;
  const { layout } = scene;

  useLayoutEffect(() => {
    const pen = begin(ground.current, seen);
    if (!pen || !box.current) return;
    const colours = coloursOf(box.current);
    drawGround(pen, scene, colours);
    drawNodes(pen, scene, colours, seen);
  }, [scene, seen, theme]);

  useLayoutEffect(() => {
    const pen = begin(marks.current, seen);
    if (!pen || !box.current) return;
    const colours = coloursOf(box.current);
    if (focus >= 0) drawFocus(pen, scene, colours, focus);
    if (hovered >= 0 && hovered !== focus) pen.dot(layout.x[hovered], layout.y[hovered], layout.radius + 3, { stroke: colours.ink, width: 1.5 });
    if (lasso.current.length > 1) pen.line(lasso.current, { stroke: colours.activation, fill: colours.activation, alpha: 0.25, closed: true });
    drawNames(pen, scene, colours, seen);
  }, [scene, seen, theme, focus, hovered, drawn]);

  useEffect(() => setHovered(-1), [scene]);
  useEffect(() => reveal(box.current, layout, at), [at]);

  /** @param {PointerEvent} event @returns {[number, number]} */
  const point = (event) => {
    const rect = /** @type {HTMLElement} */ (box.current).getBoundingClientRect();
    return [event.clientX - rect.left + seen.left, event.clientY - rect.top + seen.top];
  };
  /** @param {PointerEvent} event */
  const move = (event) => {
    const [x, y] = point(event);
    if (lasso.current.length > 0) setDrawn(lasso.current.push([x, y]));
    else setHovered(nearest(layout, x, y));
  };
  /** @param {PointerEvent} event */
  const press = (event) => {
    if (event.button !== 0 || event.pointerType === "touch") return;
    const [x, y] = point(event);
    if (nearest(layout, x, y) >= 0 || y > seen.top + seen.height - layout.foot) return;
    lasso.current = [[x, y]];
    box.current?.setPointerCapture(event.pointerId);
  };
  /** @param {PointerEvent} event */
  const release = (event) => {
    const path = lasso.current;
    lasso.current = [];
    setDrawn(0);
    const caught = path.length > 3 ? inside(layout, path) : [];
    if (caught.length > 0) return onLasso(caught);
    const [x, y] = point(event);
    const node = nearest(layout, x, y);
    if (event.shiftKey && node >= 0) onPin(node);
    else onSelect(node);
  };
  /** @param {KeyboardEvent} event */
  const step = (event) => {
    const direction = ARROWS[event.key];
    if (!direction || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const next = at < 0 ? first(scene) : neighbour(layout, at, direction);
    if (next >= 0) onSelect(next);
  };
  const names = at < 0 ? "" : `${title(scene.view, scene.view.nodes[at])}, ${where(scene.view, scene.view.nodes[at])}`;
  return html`<div class=${`picture ${focus >= 0 ? "focused" : ""}`} ref=${box} style=${{ height: `${Math.min(height, layout.height)}px` }} tabindex="0" role="application"
      aria-label=${`Graph of ${scene.view.nodes.length} nodes. Arrow keys go from node to node. ${names}`}
      onPointerMove=${move} onPointerDown=${press} onPointerUp=${release} onPointerCancel=${() => (lasso.current = [])} onPointerLeave=${() => setHovered(-1)} onKeyDown=${step}>
    <div class="sheet" style=${{ width: `${layout.width}px`, height: `${layout.height}px` }}>
      <div class="panes" style=${{ width: `${seen.width}px`, height: `${seen.height}px` }}><canvas ref=${ground}></canvas><canvas ref=${marks}></canvas></div>
      ${hovered >= 0 && html`<${Hover} scene=${scene} node=${hovered} at=${at} seen=${seen} />`}
    </div>
  </div>`;
}

/** @param {{ scene: Scene, node: number, at: number, seen: import("./draw.js").Window }} props */
function Hover({ scene, node, at, seen }) {
  const { layout, view, links } = scene;
  const right = layout.x[node] - seen.left > seen.width / 2;
  const under = layout.y[node] - seen.top < 90;
  const place = {
    left: right ? "auto" : `${layout.x[node] + 12}px`,
    right: right ? `${layout.width - layout.x[node] + 12}px` : "auto",
    top: under ? `${layout.y[node] + 12}px` : "auto",
    bottom: under ? "auto" : `${layout.height - layout.y[node] + 12}px`,
  };
  const into = at < 0 ? undefined : links.inputs[at].find((edge) => view.edges[edge][0] === node);
  const out = at < 0 ? undefined : links.outputs[at].find((edge) => view.edges[edge][1] === node);
  return html`<div class="hover" style=${place}>${about(view, view.nodes[node])}
    ${into !== undefined && html`<b>${signed(view.edges[into][2])} to the selected node</b>`}${out !== undefined && html`<b>${signed(view.edges[out][2])} from the selected node</b>`}</div>`;
}

/** The most probable target that is shown, where the keyboard begins. @param {Scene} scene */
const first = ({ view, layout }) => view.nodes.reduce((best, node, i) => (node.kind === "target" && !Number.isNaN(layout.x[i]) && (best < 0 || (node.probability ?? 0) > (view.nodes[best].probability ?? 0)) ? i : best), -1);

/** Clear a canvas to the size of what is seen. @param {HTMLCanvasElement | null} canvas @param {import("./draw.js").Window} seen */
function begin(canvas, { left, top, width, height }) {
  const ink = canvas?.getContext("2d");
  if (!canvas || !ink || width === 0) return null;
  const scale = devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  ink.setTransform(scale, 0, 0, scale, -left * scale, -top * scale);
  return canvasPen(ink);
}

/** Which part of the sheet is in sight. @param {{ current: HTMLDivElement | null }} box */
function useSeen(box) {
  const [seen, setSeen] = useState({ left: 0, top: 0, width: 0, height: 0 });
  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    const measure = () => setSeen({ left: element.scrollLeft, top: element.scrollTop, width: element.clientWidth, height: element.clientHeight });
    measure();
    const watch = new ResizeObserver(measure);
    watch.observe(element);
    element.addEventListener("scroll", measure, { passive: true });
    return () => {
      watch.disconnect();
      element.removeEventListener("scroll", measure);
    };
  }, []);
  return seen;
}

/** Changes whenever the colours do. */
function useTheme() {
  const [theme, setTheme] = useState(0);
  useEffect(() => {
    const media = matchMedia("(prefers-color-scheme: dark)");
    const turn = () => setTheme((n) => n + 1);
    const watch = new MutationObserver(turn);
    watch.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    media.addEventListener("change", turn);
    return () => {
      watch.disconnect();
      media.removeEventListener("change", turn);
    };
  }, []);
  return theme;
}

/** Scroll the selected node into sight. @param {HTMLDivElement | null} box @param {import("./layout.js").Layout} layout @param {number} node */
function reveal(box, layout, node) {
  if (!box || node < 0 || Number.isNaN(layout.x[node])) return;
  const [x, y] = [layout.x[node], layout.y[node]];
  if (x < box.scrollLeft + 60 || x > box.scrollLeft + box.clientWidth - 20) box.scrollLeft = x - box.clientWidth / 2;
  if (y < box.scrollTop + 10 || y > box.scrollTop + box.clientHeight - layout.foot) box.scrollTop = y - box.clientHeight / 2;
}
