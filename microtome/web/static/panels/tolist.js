// Put features on a list: one by name, made where there is none.
import { ErrorPanel } from "./states.js";
import { post } from "../lib/api.js";
import { html, useEffect, useState } from "../lib/dom.js";
import { address, at } from "../lib/place.js";

/** The table filtered to a list. @param {string} index @param {string} name */
export const listed = (index, name) => address(`${at(index)}/features`, { filter: `list = ${JSON.stringify(name)}` });

/**
 * @param {{ index: string, say: string, features: () => Promise<readonly number[]>, of: string, done?: () => void }} props
 *   `features` are asked for when they are to be put there; another `of` means others, so that what was done before is not said of them
 */
export function ToList({ index, say, features, of, done }) {
  const [name, setName] = useState("");
  const [state, setState] = useState(/** @type {{ done: string, error: any }} */ ({ done: "", error: null }));
  useEffect(() => setState({ done: "", error: null }), [of]);
  /** @param {Event} event */
  const add = async (event) => {
    event.preventDefault();
    try {
      await post(`/api${at(index)}/lists`, { name, add: await features() });
      setState({ done: name.trim(), error: null });
      setName("");
      done?.();
    } catch (error) {
      setState({ done: "", error });
    }
  };
  return html`<form class="to-list" onSubmit=${add}><input value=${name} maxlength="80" aria-label="list" placeholder=${say} onInput=${(/** @type {any} */ event) => setName(event.currentTarget.value)} /><button disabled=${!name.trim()}>Add</button>
      ${state.done && html`<span class="note" role="status">On <a href=${listed(index, state.done)}>${state.done}</a>.</span>`}</form>
    ${state.error && html`<${ErrorPanel} error=${state.error} />`}`;
}
