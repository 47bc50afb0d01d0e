// The picture of a graph, stroke by stroke, with whichever pen: the ground with its nodes, and the links of what is looked at.
import { LEFT, UPRIGHT } from "./layout.js";
import { tokenText } from "../lib/format.js";

/** @typedef {import("./view.js").View} View */
/** @typedef {import("./layout.js").Layout} Layout */
/** @typedef {import("./pens.js").Pen} Pen */
/**
 * @typedef {object} Scene
 * @property {View} view
 * @property {Layout} layout
 * @property {import("./links.js").Links} links
 * @property {readonly number[]} strongest edges that are drawn whatever is looked at
 * @property {ReadonlySet<number>} pinned
 * @property {ReadonlyMap<number, number>} grouped supernode of a node, by number
 * @property {ReadonlySet<number> | null} found what a search found; null where there is none
 */
/** @typedef {{ left: number, top: number, width: number, height: number }} Window the part that is seen, in the picture's pixels */
/** @typedef {Record<string, string>} Colours */

const NAMES = ["ground", "panel", "ink", "dim", "line", "soft", "link", "activation", "up", "down", "rule", "h0", "h1", "h2", "h3", "h4", "h5"];

/** The style sheet's colours, as they stand now. @param {Element} element @returns {Colours} */
export function coloursOf(element) {
  const style = getComputedStyle(element);
  return Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

/** Bands for layers and lines between tokens. @param {Pen} pen @param {Scene} scene @param {Colours} colours */
export function drawGround(pen, { layout }, colours) {
  const foot = layout.height - layout.foot;
  for (const [i, row] of layout.rows.entries()) {
    if (i % 2 === 0) pen.box(LEFT, row.start, layout.width - LEFT, row.height, { fill: colours.soft, alpha: 0.6 });
  }
  for (const column of layout.columns) pen.line([[column.start, 0], [column.start, foot]], { stroke: colours.line, alpha: 0.55 });
}

/** @param {Pen} pen @param {Scene} scene @param {Colours} colours @param {Window} window */
export function drawNames(pen, { view, layout }, colours, window) {
  const foot = Math.min(layout.height, window.top + window.height) - layout.foot;
  const top = view.nodes.reduce((most, node) => (node.kind === "target" ? Math.max(most, node.layer) : most), -2);
  pen.box(window.left, window.top, LEFT, foot - window.top, { fill: colours.panel });
  let last = -Infinity;
  for (const row of [...layout.rows].reverse()) {
    const y = row.start + row.height / 2;
    const isEnd = row.layer === top || row.layer === -1;
    if (y > foot || (!isEnd && Math.abs(last - y) < 12)) continue;
    last = y;
    pen.text(window.left + LEFT - 8, y, row.layer === top ? "output" : row.layer === -1 ? "embed" : `L${row.layer}`, { size: 10.5, fill: colours.dim, align: "end" });
  }
  pen.box(window.left, foot, Math.min(window.width, layout.width), layout.foot, { fill: colours.panel });
  for (const column of layout.columns) {
    if (column.start + column.width < window.left || column.start > window.left + window.width) continue;
    const text = column.position < 0 ? "biases" : tokenText(view.tokens[column.position]);
    if (column.width >= UPRIGHT) pen.text(column.start + column.width / 2, foot + 12, text, { size: 11.5, fill: colours.ink, align: "middle", most: column.width - 4 });
    else pen.text(column.start + column.width / 2 + 3, foot + 8, text, { size: 11, fill: colours.ink, align: "end", turn: -55, most: 82 });
  }
}

/** @param {Pen} pen @param {Scene} scene @param {Colours} colours @param {Window} window */
export function drawNodes(pen, scene, colours, window) {
  const { view, layout } = scene;
  drawLinks(pen, scene, scene.strongest, { colours, faint: true });
  for (let i = 0; i < view.nodes.length; i++) {
    if (!isIn(layout, i, window)) continue;
    const isDim = scene.found !== null && !scene.found.has(i);
    drawNode(pen, scene, i, { colours, alpha: isDim ? 0.18 : 1 });
  }
}

/** What is looked at: its links, the nodes at their ends tinted by sign, and itself. @param {Pen} pen @param {Scene} scene @param {Colours} colours @param {number} node */
export function drawFocus(pen, scene, colours, node) {
  const { inputs, outputs } = scene.links;
  drawLinks(pen, scene, [...inputs[node], ...outputs[node]], { colours, faint: false, of: node });
  for (const edge of inputs[node]) drawNode(pen, scene, scene.view.edges[edge][0], { colours, fill: tone(colours, scene.view.edges[edge][2]) });
  for (const edge of outputs[node]) drawNode(pen, scene, scene.view.edges[edge][1], { colours, fill: tone(colours, scene.view.edges[edge][2]) });
  drawNode(pen, scene, node, { colours, fill: colours.ink, grow: 1.5 });
}

/** @param {Colours} colours @param {number} weight */
const tone = (colours, weight) => (weight < 0 ? colours.down : colours.up);

/** Widths follow |weight|: over all that are drawn, or on either side of one node by itself. Negative ones are broken lines as well.
 * @param {Pen} pen @param {Scene} scene @param {readonly number[]} edges @param {{ colours: Colours, faint: boolean, of?: number }} how */
function drawLinks(pen, { view, layout }, edges, { colours, faint, of }) {
  /** @param {number} edge */
  const side = (edge) => (of !== undefined && view.edges[edge][0] === of ? 1 : 0);
  const widest = [1e-12, 1e-12];
  for (const edge of edges) widest[side(edge)] = Math.max(widest[side(edge)], Math.abs(view.edges[edge][2]));
  for (const edge of [...edges].reverse()) {
    const [source, target, weight] = view.edges[edge];
    if (Number.isNaN(layout.x[source]) || Number.isNaN(layout.x[target])) continue;
    const part = Math.sqrt(Math.abs(weight) / widest[side(edge)]);
    const ink = { stroke: tone(colours, weight), dash: weight < 0, width: faint ? 0.6 + 1.6 * part : 0.7 + 3 * part, alpha: faint ? 0.08 + 0.3 * part : 0.15 + 0.75 * part };
    pen.link([layout.x[source], layout.y[source]], [layout.x[target], layout.y[target]], ink);
  }
}

/** @param {Pen} pen @param {Scene} scene @param {number} i @param {{ colours: Colours, alpha?: number, fill?: string, grow?: number }} how */
function drawNode(pen, scene, i, { colours, alpha = 1, fill, grow = 1 }) {
  const { layout, view } = scene;
  const [x, y, r] = [layout.x[i], layout.y[i], layout.radius * grow];
  if (Number.isNaN(x)) return;
  const group = scene.grouped.get(i);
  const own = fill ?? (group === undefined ? colours.link : colours[`h${group % 6}`]);
  const kind = view.nodes[i].kind;
  if (scene.pinned.has(i)) pen.dot(x, y, r + 2.5, { stroke: colours.activation, width: 1.6, alpha });
  if (kind === "feature") pen.dot(x, y, r, { fill: own, alpha });
  else if (kind === "error") pen.line([[x, y - r], [x + r, y], [x, y + r], [x - r, y]], { fill: fill ?? colours.panel, stroke: fill ?? colours.dim, width: 1.2, alpha, closed: true });
  else if (kind === "bias") pen.line([[x, y - r], [x + r, y + r * 0.8], [x - r, y + r * 0.8]], { fill: fill ?? colours.panel, stroke: fill ?? colours.dim, width: 1.2, alpha, closed: true });
  else pen.box(x - r, y - r, 2 * r, 2 * r, { fill: fill ?? (kind === "target" ? colours.activation : colours.rule), alpha });
}

/** @param {Layout} layout @param {number} i @param {Window} window */
const isIn = (layout, i, { left, top, width, height }) =>
  layout.x[i] > left - 10 && layout.x[i] < left + width + 10 && layout.y[i] > top - 10 && layout.y[i] < top + height + 10;
