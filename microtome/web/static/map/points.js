// The points of a map in plain arrays, with a grid to find them by, and the camera that looks at them.

/** @typedef {{ x: number, y: number, zoom: number }} Camera what stands in the middle, and how much larger than the whole it is */
/** @typedef {{ width: number, height: number, fit: number }} Size of the stage, and the pixels of one unit when the whole map is seen */
/**
 * @typedef {object} Points
 * @property {number} n
 * @property {Int32Array} features
 * @property {Float32Array} x
 * @property {Float32Array} y
 * @property {Int32Array} cluster
 * @property {Float32Array} density
 * @property {Uint8Array} kind
 * @property {Uint16Array} site
 * @property {Int32Array} order points by cell of the grid
 * @property {Int32Array} starts where each cell begins in it
 * @property {{ x: number, y: number }} reach of the farthest points
 */

const CELLS = 96;
/** The whole map fills so much of the stage. */
const FILL = 0.94;
export const ZOOM = { least: 0.5, most: 400 };
export const WHOLE = /** @type {Camera} */ ({ x: 0, y: 0, zoom: 1 });

/** @param {MapView} view @returns {Points} */
export function pointsOf(view) {
  const x = Float32Array.from(view.x);
  const y = Float32Array.from(view.y);
  const starts = new Int32Array(CELLS * CELLS + 1);
  for (let i = 0; i < x.length; i++) starts[cell(x[i], y[i]) + 1]++;
  for (let i = 0; i < CELLS * CELLS; i++) starts[i + 1] += starts[i];
  const next = starts.slice();
  const order = new Int32Array(x.length);
  for (let i = 0; i < x.length; i++) order[next[cell(x[i], y[i])]++] = i;
  return { n: x.length, features: Int32Array.from(view.features), x, y, cluster: Int32Array.from(view.cluster), density: Float32Array.from(view.density), kind: Uint8Array.from(view.kind), site: Uint16Array.from(view.site), order, starts, reach: { x: farthest(x), y: farthest(y) } };
}

/** @param {Float32Array} values */
const farthest = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0.05);

/** @param {number} at */
const step = (at) => Math.min(CELLS - 1, Math.max(0, Math.floor(((at + 1) / 2) * CELLS)));
/** @param {number} x @param {number} y */
const cell = (x, y) => step(y) * CELLS + step(x);

/** The size of a stage on which the whole map is seen. @param {Points} points @param {number} width @param {number} height @returns {Size} */
export const sizeOf = (points, width, height) => ({ width, height, fit: (FILL / 2) * Math.min(width / points.reach.x, height / points.reach.y) });

/** Pixels that one unit of the map takes. @param {Camera} camera @param {Size} size */
export const scaleOf = (camera, size) => camera.zoom * size.fit;

/** Where on the map a pixel is; up is up. @param {Camera} camera @param {Size} size @param {number} px @param {number} py */
export function under(camera, size, px, py) {
  const scale = scaleOf(camera, size);
  return { x: camera.x + (px - size.width / 2) / scale, y: camera.y - (py - size.height / 2) / scale };
}

/** @param {Camera} camera @param {Size} size @param {number} x @param {number} y */
export function pixelOf(camera, size, x, y) {
  const scale = scaleOf(camera, size);
  return { x: (x - camera.x) * scale + size.width / 2, y: (camera.y - y) * scale + size.height / 2 };
}

/** The camera after zooming by a factor with a pixel held where it is. @param {Camera} camera @param {Size} size @param {number} factor @param {number} px @param {number} py @returns {Camera} */
export function zoomed(camera, size, factor, px, py) {
  const zoom = Math.min(ZOOM.most, Math.max(ZOOM.least, camera.zoom * factor));
  const held = under(camera, size, px, py);
  const moved = under({ ...camera, zoom }, size, px, py);
  return { x: camera.x + held.x - moved.x, y: camera.y + held.y - moved.y, zoom };
}

/** The point nearest to a pixel, -1 for none within `radius` pixels. @param {Points} points @param {Camera} camera @param {Size} size @param {number} px @param {number} py @param {number} [radius] */
export function nearest(points, camera, size, px, py, radius = 12) {
  const at = under(camera, size, px, py);
  const reach = radius / scaleOf(camera, size);
  let best = -1;
  let least = reach * reach;
  for (let row = step(at.y - reach); row <= step(at.y + reach); row++) {
    for (let k = points.starts[row * CELLS + step(at.x - reach)]; k < points.starts[row * CELLS + step(at.x + reach) + 1]; k++) {
      const i = points.order[k];
      const away = (points.x[i] - at.x) ** 2 + (points.y[i] - at.y) ** 2;
      if (away <= least) [best, least] = [i, away];
    }
  }
  return best;
}

/** The points inside a closed line on the map, by the even-odd rule. @param {Points} points @param {readonly { x: number, y: number }[]} line */
export function inside(points, line) {
  /** @type {number[]} */
  const found = [];
  if (line.length < 3) return found;
  const [left, right] = [Math.min(...line.map((p) => p.x)), Math.max(...line.map((p) => p.x))];
  const [low, high] = [Math.min(...line.map((p) => p.y)), Math.max(...line.map((p) => p.y))];
  for (let i = 0; i < points.n; i++) {
    const [x, y] = [points.x[i], points.y[i]];
    if (x < left || x > right || y < low || y > high) continue;
    let odd = false;
    for (let a = 0, b = line.length - 1; a < line.length; b = a++) {
      const [p, q] = [line[a], line[b]];
      if (p.y > y !== q.y > y && x < ((q.x - p.x) * (y - p.y)) / (q.y - p.y) + p.x) odd = !odd;
    }
    if (odd) found.push(i);
  }
  return found;
}
