// A question that runs the model when a button is pressed, not before.
import { Problem, post } from "../lib/api.js";
import { useState } from "../lib/dom.js";

/** @template T @param {string} url @returns {{ busy: boolean, error: Problem | null, value: T | null, run: (body: object) => Promise<void> }} */
export function useRun(url) {
  const [state, setState] = useState(/** @type {any} */ ({ busy: false, error: null, value: null }));
  /** @param {object} body */
  const run = (body) => {
    setState((/** @type {any} */ before) => ({ ...before, busy: true, error: null }));
    return post(url, body).then(
      (value) => setState({ busy: false, error: null, value }),
      (error) => {
        if (!(error instanceof Problem)) throw error;
        setState({ busy: false, error, value: null });
      },
    );
  };
  return { ...state, run };
}

/** Where the JSON twins of a graph are. @param {string} name */
export const twin = (name) => `/api/graphs/${encodeURIComponent(name)}`;
