// The picture as a file: SVG or PNG, whole, with what is selected and pinned.
import { coloursOf, drawFocus, drawGround, drawNames, drawNodes } from "./draw.js";
import { canvasPen, svgPen, svgRoot } from "./pens.js";

/** @typedef {import("./draw.js").Scene} Scene */

/** @param {Scene} scene @param {number} at @param {import("./pens.js").Pen} pen */
function draw(scene, at, pen) {
  const colours = coloursOf(document.documentElement);
  const whole = { left: 0, top: 0, width: scene.layout.width, height: scene.layout.height };
  pen.box(0, 0, whole.width, whole.height, { fill: colours.panel });
  drawGround(pen, scene, colours);
  drawNodes(pen, scene, colours, whole);
  if (at >= 0) drawFocus(pen, scene, colours, at);
  drawNames(pen, scene, colours, whole);
}

/** @param {Scene} scene @param {number} at @returns {Blob} */
export function svgOf(scene, at) {
  const root = svgRoot(scene.layout.width, scene.layout.height);
  draw(scene, at, svgPen(root));
  return new Blob([new XMLSerializer().serializeToString(root)], { type: "image/svg+xml" });
}

/** At twice the size it has on the page. @param {Scene} scene @param {number} at @returns {Promise<Blob | null>} */
export function pngOf(scene, at) {
  const canvas = document.createElement("canvas");
  canvas.width = scene.layout.width * 2;
  canvas.height = scene.layout.height * 2;
  const ink = canvas.getContext("2d");
  if (!ink) return Promise.resolve(null);
  ink.scale(2, 2);
  draw(scene, at, canvasPen(ink));
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

/** @param {Blob | null} blob @param {string} name */
export function download(blob, name) {
  if (!blob) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
