// Waiting for the model: says whether it is being loaded, and how far that is.
import { get } from "../lib/api.js";
import { html, useEffect, useState } from "../lib/dom.js";
import { at } from "../lib/place.js";

/** @param {{ index?: string, url?: string }} props `url` tells the state of the model; that of an index unless given */
export function ModelWait({ index, url = `/api${at(index ?? "")}/model` }) {
  const [state, setState] = useState(/** @type {ModelState | null} */ (null));
  useEffect(() => {
    const look = () => get(url).then(setState, () => setState(null));
    const first = setTimeout(look, 250);
    const timer = setInterval(look, 700);
    return () => {
      clearTimeout(first);
      clearInterval(timer);
    };
  }, [url]);
  const isLoading = state?.state === "loading";
  const known = isLoading && state.total > 0;
  return html`<p class="wait" role="status">
    <span class="pulse"></span>
    ${isLoading ? `Loading the model ${state.ref}: ${state.step}` : "Running the model"} …
    ${known && html`<progress max=${state.total} value=${state.done}></progress>`}
  </p>`;
}
