// Asking the server: JSON in, JSON out, and errors with their four parts.
import { answer, isCopy, needsServer } from "./copy.js";
import { useEffect, useState } from "./dom.js";

/** @typedef {{ error: string, what: string, got: string | null, wanted: string | null, do: string, docs?: string }} FourParts */

/** An answer that was not given, with the four parts that say why. */
export class Problem extends Error {
  /** @param {FourParts} parts */
  constructor(parts) {
    super(parts.what);
    this.parts = parts;
  }
}

const SILENT = {
  error: "ServerSilent",
  what: "the server does not answer.",
  got: "no connection",
  wanted: "a running `microtome serve`",
  do: "Look at the terminal it runs in, start it again, and reload this page.",
};

/** @param {string} url @param {RequestInit} options */
async function ask(url, options) {
  if (isCopy) return copied(url, options);
  let response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Problem(SILENT);
  }
  const text = await response.text();
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    const got = `status ${response.status}`;
    throw new Problem({ error: "ServerFailed", what: "the server failed.", got, wanted: "JSON", do: "Its terminal says more; please report it." });
  }
  if (!response.ok) throw new Problem(value);
  return value;
}

/** The same from a copy's files. @param {string} url @param {RequestInit} options */
async function copied(url, options) {
  const found = options.method === "POST" ? { parts: needsServer(url) } : await answer(url);
  if ("parts" in found) throw new Problem(found.parts);
  return found.value;
}

/** @param {string} url @param {AbortSignal} [signal] */
export const get = (url, signal) => ask(url, { signal });

/** @param {string} url @param {object} body @param {AbortSignal} [signal] */
export const post = (url, body, signal) =>
  ask(url, { method: "POST", signal, headers: { "Content-Type": "application/json", "X-Microtome": "1" }, body: JSON.stringify(body) });

/** How often, and after how long each time, a busy model is asked again before a person has to. */
const PATIENCE = { times: 120, wait: 1000 };

/** Time for somebody who steps through features to go on, before the model is asked about one. */
export const PAUSE = 150;

/**
 * `ask`, and again a moment later while the model has too many questions before this one.
 * @param {() => Promise<any>} ask @param {AbortSignal} signal @param {number} [times] @returns {Promise<any>}
 */
async function patiently(ask, signal, times = PATIENCE.times) {
  try {
    return await ask();
  } catch (error) {
    if (!(error instanceof Problem) || error.parts.error !== "ModelBusy" || times === 0) throw error;
    await new Promise((resolve) => setTimeout(resolve, PATIENCE.wait));
    if (signal.aborted) throw error;
    return patiently(ask, signal, times - 1);
  }
}

/**
 * What the server says at `url`, kept while the next answer is on its way so that nothing jumps; null asks nothing.
 * @template T
 * @param {string | null} url
 * @param {object} [body] send it as a POST
 * @param {number} [pause] milliseconds to wait before; asking for something else meanwhile takes it back
 * @returns {{ value: T | null, error: Problem | null, loading: boolean, again: () => void }}
 */
export function useAnswer(url, body, pause = 0) {
  const [state, setState] = useState(/** @type {any} */ ({ value: null, error: null, loading: url !== null, key: "" }));
  const [turn, setTurn] = useState(0);
  const key = url === null ? "" : `${url} ${body ? JSON.stringify(body) : ""}`;
  useEffect(() => {
    if (url === null) {
      setState({ value: null, error: null, loading: false, key });
      return;
    }
    const stop = new AbortController();
    setState((/** @type {any} */ before) => ({ ...before, loading: true }));
    const ask = () =>
      patiently(() => (body ? post(url, body, stop.signal) : get(url, stop.signal)), stop.signal).then(
        (value) => stop.signal.aborted || setState({ value, error: null, loading: false, key }),
        (error) => {
          if (stop.signal.aborted) return;
          if (!(error instanceof Problem)) throw error;
          setState({ value: null, error, loading: false, key });
        },
      );
    const timer = pause ? setTimeout(ask, pause) : void ask();
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [key, turn]);
  return { ...state, again: () => setTurn((n) => n + 1) };
}
