// The picture of a map: points straight into pixels (65,000 of them in a few milliseconds, without a GPU), and names over them.
import { pixelOf, scaleOf } from "./points.js";

/** @typedef {import("./points.js").Points} Points */
/** @typedef {import("./points.js").Camera} Camera */
/** @typedef {import("./points.js").Size} Size */
/** @typedef {"cluster" | "density" | "kind" | "site"} By */
/** @typedef {{ ground: number, dim: number, faint: number, strong: number, isDark: boolean, ink: string, panel: string, activation: string, link: string }} Theme */

export const KEPT = 2;
/** So few points that stand out are drawn larger. */
const FEW = 300;
const GOLDEN = 137.508;

/** The style sheet's colours as they stand now. @param {Element} element @returns {Theme} */
export function themeOf(element) {
  const style = getComputedStyle(element);
  const name = (/** @type {string} */ key) => style.getPropertyValue(`--${key}`).trim();
  const ground = parsed(name("panel"));
  const isDark = ground[0] + ground[1] + ground[2] < 384;
  const ink = parsed(name("dim"));
  const mixed = (/** @type {number} */ part) => packed(...mix(ground, ink, part));
  return { ground: packed(...ground), dim: mixed(0.55), faint: mixed(0.22), strong: packed(...parsed(name("activation"))), isDark, ink: name("ink"), panel: name("panel"), activation: name("activation"), link: name("link") };
}

/** @typedef {[number, number, number]} Rgb */
/** @param {string} text `#rrggbb` @returns {Rgb} */
const parsed = (text) => /** @type {Rgb} */ ([1, 3, 5].map((at) => Number.parseInt(text.slice(at, at + 2), 16) || 0));
/** @param {Rgb} a @param {Rgb} b @param {number} part @returns {Rgb} */
const mix = (a, b, part) => [a[0] + part * (b[0] - a[0]), a[1] + part * (b[1] - a[1]), a[2] + part * (b[2] - a[2])];
/** As a canvas holds a pixel on a little-endian machine. @param {number} r @param {number} g @param {number} b */
const packed = (r, g, b) => (255 << 24) | (Math.round(b) << 16) | (Math.round(g) << 8) | Math.round(r);
/** @param {number} hue @param {number} chroma 0 to 1 @param {number} light 0 to 1 @returns {Rgb} */
function hsl(hue, chroma, light) {
  const wide = chroma * Math.min(light, 1 - light);
  const part = (/** @type {number} */ n) => 255 * (light - wide * Math.max(-1, Math.min((n + hue / 30) % 12 - 3, 9 - ((n + hue / 30) % 12), 1)));
  return [part(0), part(8), part(4)];
}

/** A colour of its own for each of a few things. @param {number} i @param {Theme} theme */
export const hue = (i, theme) => hsl((i * GOLDEN + 265) % 360, theme.isDark ? 0.6 : 0.55, theme.isDark ? 0.64 : 0.46);
/** @param {number} part 0 to 1 @param {Theme} theme @returns {Rgb} */
export const ramp = (part, theme) => hsl(255 + 85 * part, 0.25 + 0.5 * part, theme.isDark ? 0.34 + 0.36 * part : 0.8 - 0.36 * part);
/** @param {Rgb} rgb */
export const css = (rgb) => `rgb(${rgb.map(Math.round).join(" ")})`;

/**
 * The colour of every point, and the order to draw them in: what is left out of a selection first, then those of no cluster.
 * @param {Points} points @param {By} by @param {Theme} theme @param {Uint8Array | null} chosen 1 for the points that stand out
 * @param {number} sites how many there are
 */
export function painted(points, by, theme, chosen, sites) {
  const colours = new Int32Array(points.n);
  const rank = new Uint8Array(points.n);
  const ramps = Array.from({ length: 256 }, (_, i) => packed(...ramp(i / 255, theme)));
  const hues = Array.from({ length: 256 }, (_, i) => packed(...hue(i, theme)));
  for (let i = 0; i < points.n; i++) {
    if (chosen && !chosen[i]) colours[i] = theme.faint;
    else if (by === "cluster") colours[i] = points.cluster[i] < 0 ? theme.dim : hues[points.cluster[i] % 256];
    else if (by === "kind") colours[i] = hues[points.kind[i]];
    else if (by === "site") colours[i] = ramps[Math.round((255 * points.site[i]) / Math.max(1, sites - 1))];
    else colours[i] = ramps[Math.round(255 * densityPart(points.density[i]))];
    rank[i] = chosen ? (chosen[i] ? KEPT : 0) : points.cluster[i] < 0 && by === "cluster" ? 0 : 1;
  }
  const order = new Int32Array(points.n);
  let k = 0;
  for (let level = 0; level <= KEPT; level++) for (let i = 0; i < points.n; i++) if (rank[i] === level) order[k++] = i;
  const standing = rank.reduce((n, level) => n + Number(level === KEPT), 0);
  return { colours, order, rank, more: standing < FEW ? 4 : 1 };
}

/** From one in 100,000 tokens to one in three. @param {number} density */
export const densityPart = (density) => Math.min(1, Math.max(0, (Math.log10(Math.max(density, 1e-6)) + 5) / 4.5));

/**
 * Every point as a small disc.
 * @param {CanvasRenderingContext2D} ink @param {ImageData} image @param {Points} points @param {ReturnType<typeof painted>} paint
 * @param {Camera} camera @param {Size} size in the image's pixels @param {Theme} theme
 */
export function drawPoints(ink, image, points, paint, camera, size, theme) {
  const { width, height } = image;
  const pixels = new Int32Array(image.data.buffer);
  pixels.fill(theme.ground);
  const scale = scaleOf(camera, size);
  const left = width / 2 - camera.x * scale;
  const top = height / 2 + camera.y * scale;
  const apart = Math.sqrt((width * height) / Math.max(1, points.n));
  const usual = Math.min(11, Math.round(Math.max(2, Math.min(5, 0.36 * apart)) * Math.max(1, camera.zoom) ** 0.4));
  const { colours, order, rank, more } = paint;
  for (let k = 0; k < order.length; k++) {
    const i = order[k];
    const wide = rank[i] === KEPT ? usual + more : usual;
    const x = (points.x[i] * scale + left - wide / 2) | 0;
    const y = (top - points.y[i] * scale - wide / 2) | 0;
    if (x < 0 || y < 0 || x + wide >= width || y + wide >= height) continue;
    const colour = colours[i];
    for (let row = 0; row < wide; row++) {
      const cut = wide > 3 && (row === 0 || row === wide - 1) ? (wide > 6 ? 2 : 1) : wide > 6 && (row === 1 || row === wide - 2) ? 1 : 0;
      const start = (y + row) * width + x;
      for (let at = start + cut; at < start + wide - cut; at++) pixels[at] = colour;
    }
  }
  ink.putImageData(image, 0, 0);
}

/**
 * Names of the largest clusters that are seen, none over another; what is pointed at, and the line of the lasso.
 * @param {CanvasRenderingContext2D} ink @param {readonly Cluster[]} clusters @param {Camera} camera @param {Size} size @param {Theme} theme
 * @param {{ ring: { x: number, y: number } | null, line: readonly { x: number, y: number }[], cross: boolean, only: number | null }} over
 */
export function drawOver(ink, clusters, camera, size, theme, over) {
  ink.clearRect(0, 0, size.width, size.height);
  ink.font = "550 11.5px system-ui, sans-serif";
  ink.textAlign = "center";
  ink.textBaseline = "middle";
  ink.lineJoin = "round";
  /** @type {[number, number, number, number][]} */
  const taken = [];
  const most = Math.round((size.width < 700 ? 8 : 14) * Math.min(2, Math.max(1, camera.zoom) ** 0.5));
  for (const cluster of clusters) {
    if (taken.length >= most) break;
    if (cluster.is_weak || (over.only !== null && cluster.number !== over.only)) continue;
    const at = pixelOf(camera, size, cluster.x, cluster.y);
    const first = cluster.label.split("; ")[0];
    const text = first.length > 34 ? `${first.slice(0, 33)}…` : first;
    const half = ink.measureText(text).width / 2 + 5;
    if (at.x - half < 0 || at.x + half > size.width || at.y < 12 || at.y > size.height - 12) continue;
    if (taken.some(([x, y, wide]) => Math.abs(x - at.x) < wide + half && Math.abs(y - at.y) < 19)) continue;
    taken.push([at.x, at.y, half, 0]);
    ink.strokeStyle = theme.panel;
    ink.lineWidth = 4;
    ink.strokeText(text, at.x, at.y);
    ink.fillStyle = theme.ink;
    ink.fillText(text, at.x, at.y);
  }
  if (over.line.length > 1) {
    ink.beginPath();
    for (const point of over.line) {
      const at = pixelOf(camera, size, point.x, point.y);
      ink.lineTo(at.x, at.y);
    }
    ink.closePath();
    ink.globalAlpha = 0.12;
    ink.fillStyle = theme.link;
    ink.fill();
    ink.globalAlpha = 1;
    ink.strokeStyle = theme.link;
    ink.lineWidth = 1.5;
    ink.stroke();
  }
  if (over.cross) {
    ink.strokeStyle = theme.ink;
    ink.lineWidth = 1;
    ink.strokeRect(size.width / 2 - 6.5, size.height / 2 - 6.5, 13, 13);
  }
  if (over.ring) {
    const at = pixelOf(camera, size, over.ring.x, over.ring.y);
    ink.beginPath();
    ink.arc(at.x, at.y, 8, 0, 2 * Math.PI);
    ink.strokeStyle = theme.activation;
    ink.lineWidth = 2.5;
    ink.stroke();
  }
}
