// The foot of every page: the line that gives the same from Python or a shell, and the page's JSON.
import { isCopy } from "../lib/copy.js";
import { html, useState } from "../lib/dom.js";

/** The same for one panel of a page, folded away. @param {{ recipe?: { python: string, shell: string }, json: string }} props */
export const ReproduceFold = ({ recipe, json }) =>
  html`<details class="fold"><summary>Reproduce this</summary><${Reproduce} recipe=${recipe} json=${json} what="answer" /></details>`;

/** @param {{ recipe?: { python: string, shell: string }, json: string, what?: string }} props */
export function Reproduce({ recipe, json, what = "page" }) {
  const [kind, setKind] = useState(/** @type {"python" | "shell"} */ ("python"));
  const [copied, setCopied] = useState(false);
  const copy = () => {
    navigator.clipboard?.writeText(recipe?.[kind] ?? "").then(
      () => setCopied(true),
      () => setCopied(false),
    );
    setTimeout(() => setCopied(false), 1500);
  };
  return html`<footer class="reproduce">
    <div class="head">
      <h2>Reproduce this</h2>
      <span class="choice" role="group" aria-label="language">
        <button aria-pressed=${kind === "python"} onClick=${() => setKind("python")}>Python</button>
        <button aria-pressed=${kind === "shell"} onClick=${() => setKind("shell")}>Shell</button>
      </span>
      <button class="plain" onClick=${copy}>${copied ? "Copied" : "Copy"}</button>
      ${!isCopy && html`<a class="json" href=${json}>JSON of this ${what}</a>`}
    </div>
    ${recipe && html`<pre><code>${recipe[kind]}</code></pre>`}
  </footer>`;
}
