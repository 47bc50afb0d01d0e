// The stage: two canvases, one for the points and one for what lies over them; pan, zoom, point, draw around. It draws when something changed, once a frame.
import { drawOver, drawPoints, painted, themeOf } from "./draw.js";
import { inside, nearest, sizeOf, under, zoomed } from "./points.js";

/** @typedef {import("./points.js").Camera} Camera */
/** @typedef {import("./points.js").Points} Points */
/** @typedef {{ x: number, y: number }} Spot */
/**
 * @typedef {object} Told what the page does when something happens
 * @property {(camera: Camera) => void} moved
 * @property {(point: number, at: Spot | null) => void} hovered -1 for none
 * @property {(point: number) => void} clicked
 * @property {(points: readonly number[]) => void} drawn around with the lasso
 */

/** A pointer that moved less is a click. */
const STILL = 4;

export class Stage {
  /** @param {HTMLElement} box @param {Points} points @param {readonly Cluster[]} clusters @param {number} sites @param {Camera} camera @param {Told} told */
  constructor(box, points, clusters, sites, camera, told) {
    this.box = box;
    this.points = points;
    this.clusters = clusters;
    this.sites = sites;
    this.camera = camera;
    this.told = told;
    this.by = /** @type {import("./draw.js").By} */ ("cluster");
    this.chosen = /** @type {Uint8Array | null} */ (null);
    this.only = /** @type {number | null} */ (null);
    this.lassoing = false;
    this.cross = false;
    this.hover = -1;
    this.pinned = -1;
    this.line = /** @type {Spot[]} */ ([]);
    this.waiting = 0;
    const canvases = box.querySelectorAll("canvas");
    this.below = canvases[0];
    this.above = canvases[1];
    this.ink = /** @type {CanvasRenderingContext2D} */ (this.below.getContext("2d", { alpha: false }));
    this.over = /** @type {CanvasRenderingContext2D} */ (this.above.getContext("2d"));
    /** @type {Map<number, Spot>} */
    this.fingers = new Map();
    this.began = { x: 0, y: 0 };
    this.stops = this.listen();
    this.resize();
  }

  /** @returns {(() => void)[]} */
  listen() {
    const watch = new ResizeObserver(() => this.resize());
    watch.observe(this.box);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const themed = () => this.repaint();
    dark.addEventListener("change", themed);
    const root = new MutationObserver(themed);
    root.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    /** @type {[string, (event: any) => void][]} */
    const events = [["pointerdown", (e) => this.down(e)], ["pointermove", (e) => this.move(e)], ["pointerup", (e) => this.up(e)], ["pointercancel", (e) => this.up(e)], ["pointerleave", () => this.leave()], ["wheel", (e) => this.wheel(e)]];
    for (const [name, act] of events) this.above.addEventListener(name, act, { passive: false });
    return [() => watch.disconnect(), () => dark.removeEventListener("change", themed), () => root.disconnect()];
  }

  stop() {
    cancelAnimationFrame(this.waiting);
    for (const stop of this.stops) stop();
  }

  get size() {
    return sizeOf(this.points, this.box.clientWidth, this.box.clientHeight);
  }

  resize() {
    const { width, height } = this.size;
    if (!width || !height) return;
    const sharp = Math.min(2, devicePixelRatio || 1);
    this.below.width = width;
    this.below.height = height;
    this.above.width = Math.round(width * sharp);
    this.above.height = Math.round(height * sharp);
    this.over.setTransform(sharp, 0, 0, sharp, 0, 0);
    this.image = this.ink.createImageData(width, height);
    this.repaint();
  }

  /** Other colours, or other points that stand out. */
  repaint() {
    this.theme = themeOf(this.box);
    this.paint = painted(this.points, this.by, this.theme, this.chosen, this.sites);
    this.draw();
  }

  draw() {
    if (!this.waiting) this.waiting = requestAnimationFrame(() => this.frame());
  }

  frame() {
    this.waiting = 0;
    if (!this.image || !this.theme || !this.paint) return;
    const size = this.size;
    drawPoints(this.ink, this.image, this.points, this.paint, this.camera, size, this.theme);
    const marked = this.hover >= 0 ? this.hover : this.pinned;
    const ring = marked < 0 ? null : { x: this.points.x[marked], y: this.points.y[marked] };
    drawOver(this.over, this.clusters, this.camera, size, this.theme, { ring, line: this.line, cross: this.cross, only: this.only });

  }

  /** @param {Camera} camera */
  look(camera) {
    this.camera = camera;
    this.draw();
    this.told.moved(camera);
  }

  /** Move by pixels. @param {number} dx @param {number} dy */
  pan(dx, dy) {
    const [from, to] = [under(this.camera, this.size, 0, 0), under(this.camera, this.size, dx, dy)];
    this.look({ ...this.camera, x: this.camera.x - to.x + from.x, y: this.camera.y - to.y + from.y });
  }

  /** From the keyboard: what lies under the middle is pointed at. @param {number} dx @param {number} dy @param {number} [factor] */
  steer(dx, dy, factor = 1) {
    const { width, height } = this.size;
    this.cross = true;
    if (factor !== 1) this.look(zoomed(this.camera, this.size, factor, width / 2, height / 2));
    this.pan(dx, dy);
    this.point({ x: width / 2, y: height / 2 });
  }

  /** @param {Spot | null} at */
  point(at) {
    const found = at ? nearest(this.points, this.camera, this.size, at.x, at.y) : -1;
    if (found !== this.hover) this.draw();
    this.hover = found;
    this.told.hovered(found, at);
  }

  /** @param {PointerEvent} event */
  spot(event) {
    const box = this.above.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  /** @param {PointerEvent} event */
  down(event) {
    if (event.button !== 0) return;
    this.above.setPointerCapture(event.pointerId);
    const at = this.spot(event);
    this.fingers.set(event.pointerId, at);
    this.began = at;
    this.cross = false;
    if (this.lassoing || event.shiftKey) this.line = [under(this.camera, this.size, at.x, at.y)];
  }

  /** @param {PointerEvent} event */
  move(event) {
    const at = this.spot(event);
    const before = this.fingers.get(event.pointerId);
    if (!before) {
      this.cross = false;
      this.point(at);
      return;
    }
    this.fingers.set(event.pointerId, at);
    if (this.line.length) {
      this.line.push(under(this.camera, this.size, at.x, at.y));
      this.draw();
      return;
    }
    const other = [...this.fingers].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      const apart = (/** @type {Spot} */ a) => Math.hypot(a.x - other.x, a.y - other.y) || 1;
      this.look(zoomed(this.camera, this.size, apart(at) / apart(before), (at.x + other.x) / 2, (at.y + other.y) / 2));
      return;
    }
    this.pan(at.x - before.x, at.y - before.y);
  }

  /** @param {PointerEvent} event */
  up(event) {
    const at = this.spot(event);
    if (!this.fingers.delete(event.pointerId) || this.fingers.size) return;
    if (this.line.length) {
      const line = this.line;
      this.line = [];
      this.draw();
      if (line.length > 2) this.told.drawn(inside(this.points, line));
      return;
    }
    if (event.type === "pointerup" && Math.hypot(at.x - this.began.x, at.y - this.began.y) < STILL) {
      this.point(at);
      if (this.hover >= 0) this.told.clicked(this.hover);
    }
  }

  leave() {
    if (!this.cross) this.point(null);
  }

  /** @param {WheelEvent} event */
  wheel(event) {
    event.preventDefault();
    const at = this.spot(/** @type {any} */ (event));
    const lines = event.deltaMode === 1 ? 16 : 1;
    this.look(zoomed(this.camera, this.size, Math.exp(-event.deltaY * lines * 0.0016), at.x, at.y));
  }
}
