// Where nodes stand: a column a token, a row a layer, inputs at the bottom and targets on top; nodes of one cell side by side.

/** @typedef {import("./view.js").View} View */
/**
 * @typedef {object} Layout
 * @property {number} width
 * @property {number} height
 * @property {number} foot of it, the part at the bottom that holds the tokens
 * @property {number} radius of a node, in pixels
 * @property {Float32Array} x of each node; NaN where it is not shown
 * @property {Float32Array} y
 * @property {readonly { position: number, start: number, width: number }[]} columns
 * @property {readonly { layer: number, start: number, height: number }[]} rows top row first
 */

export const LEFT = 46;
/** A column of this width has room for its token as it is read; narrower ones are labelled aslant. */
export const UPRIGHT = 44;
const TOP = 10;
const SLANTED = 74;
const STEPS = [13, 11, 9.5, 8, 6.8, 5.8, 5];
const TIGHTEST = STEPS[STEPS.length - 1];
const KINDS = ["feature", "target", "embedding", "error", "bias"];

/**
 * @param {View} view
 * @param {(node: number) => boolean} isShown
 * @param {{ width: number, height: number }} room the picture fits it where nodes can be told apart, and is larger where not
 * @returns {Layout}
 */
export function layout(view, isShown, room) {
  const cells = cellsOf(view, isShown);
  const widest = fullest(cells, (cell) => cell.position);
  const positions = [...(widest.has(-1) ? [-1] : []), ...view.tokens.keys()];
  const layers = [...new Set(view.nodes.map((node) => node.layer))].sort((a, b) => b - a);
  for (const step of STEPS) {
    const columns = columnsOf(positions, widest, step);
    const lines = linesOf(cells, columns, step);
    const rows = layers.map((layer) => Math.max(12, (lines.get(layer) ?? 1) * step + 4));
    const width = LEFT + columns.reduce((sum, column) => sum + column, 0) + 8;
    const height = TOP + rows.reduce((sum, row) => sum + row, 0) + SLANTED;
    const fits = width <= room.width && height <= room.height;
    if (!fits && step !== TIGHTEST) continue;
    return place(view, cells, { positions, layers, columns: stretch(columns, room.width - width), rows: stretch(rows, room.height - height, 30), step });
  }
  throw new Error("the tightest step always fits");
}

/** @typedef {{ layer: number, position: number, nodes: number[] }} Cell */

/** @param {View} view @param {(node: number) => boolean} isShown @returns {Cell[]} */
function cellsOf(view, isShown) {
  /** @type {Map<string, Cell>} */
  const cells = new Map();
  view.nodes.forEach((node, i) => {
    if (!isShown(i)) return;
    const position = view.tokens[node.position] === undefined ? -1 : node.position;
    const key = `${node.layer} ${position}`;
    const cell = cells.get(key) ?? { layer: node.layer, position, nodes: [] };
    cell.nodes.push(i);
    cells.set(key, cell);
  });
  const rank = (/** @type {number} */ i) => KINDS.indexOf(view.nodes[i].kind);
  for (const cell of cells.values()) cell.nodes.sort((a, b) => rank(a) - rank(b) || view.nodes[b].activation - view.nodes[a].activation);
  return [...cells.values()];
}

/** @param {readonly Cell[]} cells @param {(cell: Cell) => number} key @returns {Map<number, number>} */
function fullest(cells, key) {
  const most = new Map();
  for (const cell of cells) most.set(key(cell), Math.max(most.get(key(cell)) ?? 0, cell.nodes.length));
  return most;
}

/** Up to six nodes side by side; a column without nodes is only as wide as its label needs. @param {readonly number[]} positions @param {Map<number, number>} widest @param {number} step */
const columnsOf = (positions, widest, step) => positions.map((position) => Math.max(15, Math.min(6, widest.get(position) ?? 0) * step + 6));

/** @param {readonly Cell[]} cells @param {readonly number[]} columns @param {number} step */
function linesOf(cells, columns, step) {
  const shift = cells.some((cell) => cell.position === -1) ? 1 : 0;
  const lines = new Map();
  for (const cell of cells) {
    const across = Math.max(1, Math.floor((columns[cell.position + shift] - 4) / step));
    lines.set(cell.layer, Math.max(lines.get(cell.layer) ?? 1, Math.ceil(cell.nodes.length / across)));
  }
  return lines;
}

/** Spread room that is left over evenly. @param {readonly number[]} sizes @param {number} spare @param {number} [most] */
function stretch(sizes, spare, most = Infinity) {
  const each = Math.max(0, spare) / sizes.length;
  return sizes.map((size) => Math.max(size, Math.min(most, size + each)));
}

/** @param {View} view @param {readonly Cell[]} cells @param {{ positions: readonly number[], layers: readonly number[], columns: readonly number[], rows: readonly number[], step: number }} grid @returns {Layout} */
function place(view, cells, { positions, layers, columns, rows, step }) {
  const x = new Float32Array(view.nodes.length).fill(NaN);
  const y = new Float32Array(view.nodes.length).fill(NaN);
  let width = LEFT;
  const across = positions.map((position, i) => ({ position, start: (width += columns[i]) - columns[i], width: columns[i] }));
  let height = TOP;
  const down = layers.map((layer, i) => ({ layer, start: (height += rows[i]) - rows[i], height: rows[i] }));
  const columnAt = new Map(across.map((column) => [column.position, column]));
  const rowAt = new Map(down.map((row) => [row.layer, row]));
  for (const cell of cells) {
    const column = columnAt.get(cell.position);
    const row = rowAt.get(cell.layer);
    if (!column || !row) continue;
    const perLine = Math.max(1, Math.floor((column.width - 4) / step));
    const lines = Math.ceil(cell.nodes.length / perLine);
    cell.nodes.forEach((node, i) => {
      const line = Math.floor(i / perLine);
      const inLine = Math.min(perLine, cell.nodes.length - line * perLine);
      x[node] = column.start + column.width / 2 + ((i % perLine) - (inLine - 1) / 2) * step;
      y[node] = row.start + row.height / 2 + (line - (lines - 1) / 2) * step;
    });
  }
  const longest = Math.max(...view.tokens.map((token) => token.length), "biases".length);
  const foot = columns.every((column) => column >= UPRIGHT) ? 26 : Math.min(SLANTED, 24 + 5 * longest);
  return { width: width + 8, height: height + foot, foot, radius: Math.min(5, step * 0.4), x, y, columns: across, rows: down };
}

/** The node nearest to a point, within `reach` pixels; -1 when there is none. @param {Layout} layout @param {number} x @param {number} y */
export function nearest(layout, x, y, reach = 9) {
  let best = -1;
  let distance = reach * reach;
  for (let i = 0; i < layout.x.length; i++) {
    const square = (layout.x[i] - x) ** 2 + (layout.y[i] - y) ** 2;
    if (square < distance) [best, distance] = [i, square];
  }
  return best;
}

/** The nodes inside a lasso (even-odd rule). @param {Layout} layout @param {readonly (readonly [number, number])[]} path */
export function inside(layout, path) {
  const found = [];
  for (let i = 0; i < layout.x.length; i++) {
    let isIn = false;
    for (let a = 0, b = path.length - 1; a < path.length; b = a++) {
      const [ax, ay] = path[a];
      const [bx, by] = path[b];
      if (ay > layout.y[i] !== by > layout.y[i] && layout.x[i] < ((bx - ax) * (layout.y[i] - ay)) / (by - ay) + ax) isIn = !isIn;
    }
    if (isIn) found.push(i);
  }
  return found;
}

/** The next node from one in a direction: nearest where going sideways counts double. @param {Layout} layout @param {number} from @param {readonly [number, number]} direction */
export function neighbour(layout, from, [dx, dy]) {
  let best = -1;
  let cost = Infinity;
  for (let i = 0; i < layout.x.length; i++) {
    const [x, y] = [layout.x[i] - layout.x[from], layout.y[i] - layout.y[from]];
    const along = x * dx + y * dy;
    if (!(along > 1)) continue;
    const price = along + 2 * Math.abs(x * dy + y * dx);
    if (price < cost) [best, cost] = [i, price];
  }
  return best;
}
