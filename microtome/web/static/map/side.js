// Beside the map: what the colours mean, what was drawn around and which list to put it on, and every cluster by its name.
import { css, densityPart, hue, ramp, themeOf } from "./draw.js";
import { ToList } from "../panels/tolist.js";
import { get } from "../lib/api.js";
import { html, useEffect, useState } from "../lib/dom.js";
import { count, percent } from "../lib/format.js";
import { address, at } from "../lib/place.js";

const FEW = 12;
const MORE = 100;
/** So many features fit into the filter of one request. */
const AT_ONCE = 20;

/**
 * @param {{ index: string, view: MapView, points: import("./points.js").Points, by: import("./draw.js").By, picked: readonly number[] | null, cluster: number | null,
 *   found: ReadonlySet<number> | null, show: (number: number) => void }} props
 */
export function MapSide({ index, view, points, by, picked, cluster, found, show }) {
  const some = picked ?? (found ? [...points.features.keys()].filter((i) => found.has(points.features[i]) && (cluster === null || points.cluster[i] === cluster)) : null);
  const inside = some ?? (cluster === null ? null : [...points.features.keys()].filter((i) => points.cluster[i] === cluster));
  return html`<aside class="side-column">
    ${inside && html`<${Chosen} index=${index} view=${view} features=${inside.map((i) => points.features[i])} cluster=${picked || found ? null : cluster} />`}
    <${Legend} view=${view} by=${by} />
    <section class="panel" id="clusters"><h2>Clusters <small>${count(view.clusters.length)}</small></h2>
      <ol class="list atlas-list">${view.clusters.map((one) => html`<li class=${one.number === cluster ? "on" : ""}><button class="plain" onClick=${() => show(one.number)} data-tip=${told(one)}>${one.label}</button><span class="value">${count(one.size)}</span></li>`)}</ol></section>
  </aside>`;
}

/** @param {Cluster} one */
const told = (one) => (one.terms.length ? one.terms.map((term) => `${term.kind} ${term.text}: ${percent(term.share)} here, ${percent(term.overall)} of all`).join("\n") : "nothing that its features share more than others do");

/** @param {{ view: MapView, by: import("./draw.js").By }} props */
function Legend({ view, by }) {
  const theme = themeOf(document.documentElement);
  if (by === "cluster") return null;
  const steps = by === "density" ? [1e-5, 1e-4, 1e-3, 1e-2, 0.1].map((density) => ({ colour: ramp(densityPart(density), theme), name: percent(density) })) : by === "kind" ? view.kinds.map((name, i) => ({ colour: hue(i, theme), name })) : ends(view.sites).map(([name, part]) => ({ colour: ramp(part, theme), name }));
  return html`<section class="panel"><h2>${by === "density" ? "Share of tokens" : by === "kind" ? "Kind of rule" : "Reads"}</h2><p class="legend-keys">${steps.map((step) => html`<span><i style=${{ background: css(step.colour) }}></i>${step.name}</span>`)}</p></section>`;
}

/** @param {readonly string[]} sites @returns {readonly [string, number][]} */
function ends(sites) {
  const last = sites.length - 1;
  return [...new Set([0, Math.round(last / 3), Math.round((2 * last) / 3), last])].map((i) => [sites[i], last ? i / last : 0]);
}

/** @param {{ index: string, view: MapView, features: readonly number[], cluster: number | null }} props */
function Chosen({ index, view, features, cluster }) {
  const [shown, setShown] = useState(FEW);
  useEffect(() => setShown(FEW), [cluster, features.length, features[0]]);
  const rows = useRows(index, features.slice(0, shown));
  const left = features.length - shown;
  return html`<section class="panel" id="chosen"><h2>${cluster === null ? "Chosen" : view.clusters[cluster]?.label} <small>${count(features.length)}</small></h2>
    ${features.length === 0 ? html`<p class="quiet">None of the features on the map.</p>` : html`<${ToList} index=${index} say="Put them on a list" features=${async () => features} of=${`${features.length} ${features[0]}`} />`}
    <ol class="list wide">${rows.map((row) => html`<li><a href=${`${at(index)}/f/${row.feature}`}><span class="number">${row.feature}</span> ${row.label}</a></li>`)}</ol>
    ${cluster === null && left > 0 && html`<p><button id="more-chosen" onClick=${() => setShown(shown + MORE)}>Show ${count(Math.min(left, MORE))} more</button> <span class="quiet">${count(shown)} of ${count(features.length)}</span></p>`}
    ${cluster !== null && html`<p class="note"><a href=${address(`${at(index)}/features`, { filter: `cluster = ${cluster}` })}>All of it in the table</a></p>`}</section>`;
}

/** The rows of the features that have come; those that were asked for before are kept. @param {string} index @param {readonly number[]} features @returns {readonly TableRow[]} */
function useRows(index, features) {
  const [known, setKnown] = useState(/** @type {ReadonlyMap<string, TableRow>} */ (new Map()));
  const key = (/** @type {number} */ feature) => `${index} ${feature}`;
  const missing = features.filter((feature) => !known.has(key(feature)));
  useEffect(() => {
    const stop = new AbortController();
    const parts = Array.from({ length: Math.ceil(missing.length / AT_ONCE) }, (_, i) => missing.slice(AT_ONCE * i, AT_ONCE * (i + 1)));
    for (const part of parts) {
      const filter = part.map((feature) => `feature = ${feature}`).join(" or ");
      get(address(`/api${at(index)}/features`, { filter, limit: AT_ONCE }), stop.signal).then(
        (/** @type {{ rows: readonly TableRow[] }} */ answer) => setKnown((before) => new Map([...before, ...answer.rows.map((row) => /** @type {const} */ ([key(row.feature), row]))])),
        () => null,
      );
    }
    return () => stop.abort();
  }, [index, features.join()]);
  return features.flatMap((feature) => known.get(key(feature)) ?? []);
}
