// The edges of a graph as the page walks them: inputs and outputs of every node, strongest first.

/** @typedef {import("./view.js").View} View */
/**
 * @typedef {object} Links
 * @property {readonly (readonly number[])[]} inputs of each node, numbers of edges, largest |weight| first
 * @property {readonly (readonly number[])[]} outputs of each node, in the same order
 * @property {readonly number[]} strongest all edges, largest |weight| first
 * @property {Map<string, number>} byId the node that an id names
 */

/** @param {View} view @returns {Links} */
export function linksOf(view) {
  const sizes = Float64Array.from(view.edges, ([, , weight]) => -Math.abs(weight));
  const order = Uint32Array.from(sizes, (_, edge) => edge).sort((a, b) => sizes[a] - sizes[b]);
  /** @type {number[][]} */
  const inputs = view.nodes.map(() => []);
  /** @type {number[][]} */
  const outputs = view.nodes.map(() => []);
  for (const edge of order) {
    const [source, target] = view.edges[edge];
    inputs[target].push(edge);
    outputs[source].push(edge);
  }
  return { inputs, outputs, strongest: Array.from(order), byId: new Map(view.nodes.map((node, i) => [node.id, i])) };
}
