// The frame around every page: which page an address means, the bar at the top, the keys that work everywhere.
import { isCopy, isThere, markAbsent } from "./lib/copy.js";
import { html, render, signal, useState } from "./lib/dom.js";
import { focus, useKeys } from "./lib/keys.js";
import { address, at, go, home, place, plain } from "./lib/place.js";
import { startTips } from "./lib/tip.js";
import { DirectionPage } from "./pages/direction.js";
import { DocumentPage } from "./pages/document.js";
import { DocumentsPage } from "./pages/documents.js";
import { FeaturePage } from "./pages/feature.js";
import { GraphPage } from "./pages/graph.js";
import { HomePage } from "./pages/home.js";
import { KeptPage } from "./pages/kept.js";
import { MapPage } from "./pages/map.js";
import { OddPage } from "./pages/odd.js";
import { OverviewPage } from "./pages/overview.js";
import { SearchPage } from "./pages/search.js";
import { SteerPage } from "./pages/steer.js";
import { TablePage } from "./pages/table.js";
import { HelpSheet } from "./panels/help.js";
import { ErrorPanel } from "./panels/states.js";

/** @type {readonly [RegExp, (props: any) => any][]} */
const ROUTES = [
  [/^\/$/, HomePage],
  [/^\/s\/([^/]+)$/, OverviewPage],
  [/^\/s\/([^/]+)\/features$/, TablePage],
  [/^\/s\/([^/]+)\/search$/, SearchPage],
  [/^\/s\/([^/]+)\/odd$/, OddPage],
  [/^\/s\/([^/]+)\/steer$/, SteerPage],
  [/^\/s\/([^/]+)\/map$/, MapPage],
  [/^\/s\/([^/]+)\/kept$/, KeptPage],
  [/^\/s\/([^/]+)\/f\/([^/]+)$/, FeaturePage],
  [/^\/s\/([^/]+)\/documents$/, DocumentsPage],
  [/^\/s\/([^/]+)\/d\/([^/]+)$/, DocumentPage],
  [/^\/g\/([^/]+)$/, GraphPage],
  [/^\/directions\/([^/]+)$/, DirectionPage],
];

const ICON = new URL("icon.svg", import.meta.url).pathname;
const isHelpOpen = signal(false);

function switchTheme() {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
  localStorage.setItem("microtome-theme", root.dataset.theme);
}

/** @param {{ index: string | null, other: string | null }} props `other`: the name of a graph or a direction */
function TopBar({ index, other }) {
  const [text, setText] = useState("");
  const here = place.value.path.split("/")[3] ?? "";
  /** @param {Event} event */
  const search = (event) => {
    event.preventDefault();
    if (!index || !text.trim()) return;
    const number = /^#?(\d+)$/.exec(text.trim());
    go(number ? `${at(index)}/f/${number[1]}` : address(`${at(index)}/features`, { search: text.trim() }));
    setText("");
    if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
  };
  /** @param {string} href @param {string} name @param {boolean} on */
  const tab = (href, name, on) => html`<a href=${href} aria-current=${on ? "page" : null}>${name}</a>`;
  return html`<header class="topbar">
    <a class="brand" href=${home}><img src=${ICON} alt="" width="20" height="20" />microtome</a>
    ${index && html`<nav aria-label="pages">
      ${tab(at(index), index, here === "")}
      ${tab(`${at(index)}/features`, "Features", here === "features" || here === "f")}
      ${tab(`${at(index)}/documents`, "Documents", here === "documents" || here === "d")}
      ${[["search", "Find by text"], ["steer", "Steer"], ["odd", "Odd"], ["map", "Map"], ["kept", "Kept"]].map(([page, name]) => isThere(page) && tab(`${at(index)}/${page}`, name, here === page))}</nav>
      <form role="search" onSubmit=${search}><input id="search" type="search" aria-label="search" placeholder="Label or number   /" value=${text} maxlength="500" onInput=${(/** @type {any} */ event) => setText(event.currentTarget.value)} /></form>`}
    ${other && html`<nav aria-label="pages">${tab("/", "Workspace", false)}${tab(place.value.path, other, true)}</nav>`}
    <span class="tools"><button class="plain" onClick=${switchTheme} aria-label="light or dark" data-tip="light or dark (d)">◐</button><button class="plain" onClick=${() => (isHelpOpen.value = true)} aria-label="help" data-tip="keys (?)">?</button></span>
  </header>`;
}

function App() {
  const { path } = place.value;
  let index = null;
  let other = null;
  let page = null;
  for (const [pattern, Page] of ROUTES) {
    const match = pattern.exec(path);
    if (!match) continue;
    const name = match[1] === undefined ? null : plain(match[1]);
    index = path.startsWith("/s/") ? name : null;
    other = path.startsWith("/s/") ? null : name;
    page = html`<${Page} key=${`${pattern}${name}`} index=${index} name=${name} id=${match[2]} />`;
    break;
  }
  const lost = { error: "PageNotFound", what: "there is nothing at this address.", got: plain(path), wanted: "a page's address", do: "Begin at the first page." };
  useKeys({
    "/": () => focus("#search"),
    "?": () => (isHelpOpen.value = true),
    d: switchTheme,
    f: () => index && go(`${at(index)}/features`),
    o: () => go(index ? at(index) : "/"),
    t: () => focus("#test-text"),
  });
  return html`<${TopBar} index=${index} other=${other} />
    <main>${page ?? html`<${ErrorPanel} error=${{ parts: lost }} /><p><a href=${home}>First page</a></p>`}</main>
    ${isHelpOpen.value && html`<${HelpSheet} onClose=${() => (isHelpOpen.value = false)} />`}`;
}

startTips();
const app = /** @type {HTMLElement} */ (document.getElementById("app"));
app.replaceChildren(); // what stands there for who opens a copy's file without a server
render(html`<${App} />`, app);
if (isCopy) void markAbsent();
