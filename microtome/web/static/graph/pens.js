// Two pens with one set of strokes: a canvas for the page, an SVG document for a file. Text is always text.

/** @typedef {{ stroke?: string, fill?: string, width?: number, alpha?: number, dash?: boolean }} Ink */
/**
 * @typedef {object} Pen
 * @property {(x: number, y: number, width: number, height: number, ink: Ink) => void} box
 * @property {(points: readonly (readonly [number, number])[], ink: Ink & { closed?: boolean }) => void} line
 * @property {(from: readonly [number, number], to: readonly [number, number], ink: Ink) => void} link a curve that leaves upwards and arrives from below
 * @property {(x: number, y: number, radius: number, ink: Ink) => void} dot
 * @property {(x: number, y: number, text: string, ink: Ink & { size: number, align?: "start" | "middle" | "end", turn?: number, most?: number }) => void} text `turn` in degrees; `most` pixels at most
 */

const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif";

/** @param {readonly [number, number]} from @param {readonly [number, number]} to */
function bend([x, y], [toX, toY]) {
  const lift = Math.max(14, Math.abs(y - toY) * 0.45);
  return { x, y, x1: x, y1: y - lift, x2: toX, y2: toY + lift, toX, toY };
}

/** @param {CanvasRenderingContext2D} canvas @returns {Pen} */
export function canvasPen(canvas) {
  /** @param {Ink} ink */
  const finish = ({ stroke, fill, width = 1, alpha = 1, dash = false }) => {
    canvas.globalAlpha = alpha;
    if (fill) {
      canvas.fillStyle = fill;
      canvas.fill();
    }
    if (!stroke) return;
    canvas.strokeStyle = stroke;
    canvas.lineWidth = width;
    canvas.setLineDash(dash ? [4, 3] : []);
    canvas.stroke();
  };
  return {
    box(x, y, width, height, ink) {
      canvas.beginPath();
      canvas.rect(x, y, width, height);
      finish(ink);
    },
    line(points, ink) {
      canvas.beginPath();
      points.forEach(([x, y], i) => (i === 0 ? canvas.moveTo(x, y) : canvas.lineTo(x, y)));
      if (ink.closed) canvas.closePath();
      finish(ink);
    },
    link(from, to, ink) {
      const { x, y, x1, y1, x2, y2, toX, toY } = bend(from, to);
      canvas.beginPath();
      canvas.moveTo(x, y);
      canvas.bezierCurveTo(x1, y1, x2, y2, toX, toY);
      finish(ink);
    },
    dot(x, y, radius, ink) {
      canvas.beginPath();
      canvas.arc(x, y, radius, 0, 2 * Math.PI);
      finish(ink);
    },
    text(x, y, text, { size, fill = "#000", alpha = 1, align = "start", turn = 0, most }) {
      canvas.save();
      canvas.translate(x, y);
      canvas.rotate((turn * Math.PI) / 180);
      canvas.globalAlpha = alpha;
      canvas.fillStyle = fill;
      canvas.font = `${size}px ${FONT}`;
      canvas.textAlign = align === "middle" ? "center" : align;
      canvas.textBaseline = "middle";
      canvas.fillText(cut(text, size, most), 0, 0);
      canvas.restore();
    },
  };
}

/** What fits, by the mean width of a letter. @param {string} text @param {number} size @param {number | undefined} most */
function cut(text, size, most) {
  const letters = [...text];
  const fit = most === undefined ? letters.length : Math.max(2, Math.floor(most / (size * 0.56)));
  return letters.length <= fit ? text : `${letters.slice(0, fit - 1).join("")}…`;
}

const SVG = "http://www.w3.org/2000/svg";

/** @param {SVGElement} root @returns {Pen} */
export function svgPen(root) {
  /** @param {string} name @param {Record<string, string | number>} parts @param {Ink} ink */
  const add = (name, parts, { stroke, fill, width = 1, alpha = 1, dash = false }) => {
    const element = document.createElementNS(SVG, name);
    const look = { fill: fill ?? "none", ...(stroke ? { stroke, "stroke-width": width } : {}), ...(alpha < 1 ? { opacity: alpha } : {}), ...(dash ? { "stroke-dasharray": "4 3" } : {}) };
    for (const [key, value] of Object.entries({ ...parts, ...look })) element.setAttribute(key, String(typeof value === "number" ? Math.round(value * 100) / 100 : value));
    root.append(element);
    return element;
  };
  return {
    box: (x, y, width, height, ink) => void add("rect", { x, y, width, height }, ink),
    line(points, ink) {
      const d = points.map(([x, y], i) => `${i === 0 ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`).join("") + (ink.closed ? "Z" : "");
      add("path", { d }, ink);
    },
    link(from, to, ink) {
      const { x, y, x1, y1, x2, y2, toX, toY } = bend(from, to);
      add("path", { d: `M${x.toFixed(1)} ${y.toFixed(1)}C${[x1, y1, x2, y2, toX, toY].map((value) => value.toFixed(1)).join(" ")}` }, ink);
    },
    dot: (x, y, radius, ink) => void add("circle", { cx: x, cy: y, r: radius }, ink),
    text(x, y, text, { size, align = "start", turn = 0, most, ...ink }) {
      const at = { x, y, "font-size": size, "font-family": FONT, "text-anchor": align, "dominant-baseline": "middle" };
      add("text", turn ? { ...at, transform: `rotate(${turn} ${x} ${y})` } : at, ink).textContent = cut(text, size, most);
    },
  };
}

/** An SVG document to draw into. @param {number} width @param {number} height @returns {SVGElement} */
export function svgRoot(width, height) {
  const root = document.createElementNS(SVG, "svg");
  for (const [key, value] of Object.entries({ width, height, viewBox: `0 0 ${width} ${height}` })) root.setAttribute(key, String(value));
  return root;
}
