// What a node of a graph is called and how it looks; the shape of the record is that of `microtome.circuits.view`.
import { num, percent, tokenText } from "../lib/format.js";

/** @typedef {{ readonly id: string, readonly kind: string, readonly layer: number, readonly position: number, readonly feature: number, readonly activation: number, readonly influence: number, readonly label: string, readonly probability: number | null, readonly expanded: boolean }} NodeView */
/**
 * @typedef {object} GraphView
 * @property {string} slug
 * @property {string} prompt
 * @property {readonly string[]} tokens
 * @property {string} model
 * @property {readonly string[]} dictionaries
 * @property {{ readonly node: number, readonly edge: number }} thresholds
 * @property {{ readonly replacement: number, readonly completeness: number, readonly error_share: number, readonly untraced: number, readonly balance: number | null }} scores
 * @property {{ readonly nodes: number, readonly edges: number, readonly influence: number }} hidden
 * @property {readonly NodeView[]} nodes
 * @property {readonly (readonly [number, number, number])[]} edges source and target are places in `nodes`
 * @property {any} tested
 * @property {"tokens" | "turns"} columns
 */
/** @typedef {NodeView} Node */
/** @typedef {{ index: string, first: number }} Cards where the cards of a layer's features are: the index, and the id of feature 0 in it */
/** @typedef {GraphView & { name: string, cards: Record<string, Cards>, has_densities: boolean, reproduce: { python: string, shell: string } }} View */

/** What a person reads first of a node. @param {View} view @param {Node} node */
export function title(view, node) {
  const token = view.tokens[node.position];
  if (node.kind === "embedding") return token === undefined ? "embedding" : tokenText(token);
  if (node.kind === "target") return node.feature >= 0 ? tokenText(node.label) : node.label || node.id;
  if (node.kind === "error") return `error of L${node.layer}`;
  if (node.kind === "bias") return node.id.split("@")[0];
  return node.label || `feature ${node.feature}`;
}

/** Where a node stands, in words. @param {View} view @param {Node} node */
export function where(view, node) {
  const token = view.tokens[node.position];
  const place = token === undefined ? "all tokens" : `${tokenText(token)} (${node.position})`;
  if (node.kind === "target") return `output · ${place}`;
  return node.kind === "embedding" ? place : `L${node.layer} · ${place}`;
}

/** How strong a node is, in words. @param {Node} node */
export function strength(node) {
  if (node.kind === "target") return node.feature >= 0 && node.probability !== null ? `probability ${percent(node.probability)}` : "";
  return node.kind === "feature" ? `activation ${num(node.activation)}${node.expanded ? "" : ", its inputs were not traced"}` : "";
}

/** What hovering shows. @param {View} view @param {Node} node */
export function about(view, node) {
  const amount = strength(node);
  return `${title(view, node)}\n${[node.id, where(view, node), amount].filter(Boolean).join(" · ")}`;
}

/** A weight with its sign. @param {number} weight */
export const signed = (weight) => (weight > 0 ? `+${num(weight)}` : num(weight));
