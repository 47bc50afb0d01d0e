// Steering: a prompt under edits beside the same prompt without; what the edits did to every token, and dose against effect.
import { DosesPanel } from "../panels/doses.js";
import { EditList } from "../panels/editlist.js";
import { ModelWait } from "../panels/modelwait.js";
import { PartFinder } from "../panels/partfinder.js";
import { Reproduce } from "../panels/reproduce.js";
import { Empty, ErrorPanel } from "../panels/states.js";
import { fits, TEXT_CHARS, TextBox, TooLong } from "../panels/textbox.js";
import { TwoAnswers } from "../panels/twoanswers.js";
import { useAnswer } from "../lib/api.js";
import { html, useEffect, useLayoutEffect, useState } from "../lib/dom.js";
import { address, at, place, prompts, setQuery } from "../lib/place.js";

const NUMBERS = /** @type {const} */ ([["tokens", "tokens", 40, "length of the continuation"], ["temperature", "temperature", 0, "0: always the likeliest token"], ["seed", "seed", 0, "of the random numbers, the same for both sides"]]);

/** What the address asks for. @param {URLSearchParams} query */
function asked(query) {
  const number = (/** @type {string} */ name, /** @type {number} */ usual) => (query.get(name) ? Number(query.get(name)) : usual);
  const body = { text: query.get("text") ?? "", edit: prompts(query.get("edits") ?? ""), chat: query.get("chat") === "1", system: query.get("system") ?? "" };
  return { ...body, tokens: number("tokens", 40), temperature: number("temperature", 0), seed: number("seed", 0) };
}

/** @param {{ index: string }} props */
export function SteerPage({ index }) {
  const { query } = place.value;
  const body = asked(query);
  const key = JSON.stringify(body);
  const [text, setText] = useState(body.text);
  const [system, setSystem] = useState(body.system);
  const [ran, setRan] = useState(query.get("run") === "1" ? key : "");
  useLayoutEffect(() => setText(body.text), [body.text]);
  useLayoutEffect(() => setSystem(body.system), [body.system]);
  useEffect(() => void (document.title = `Steering · ${index}`), [index]);
  const url = `/api${at(index)}/steer`;
  const { value, error, loading, again } = useAnswer(ran ? url : null, ran ? JSON.parse(ran) : undefined);
  const answer = /** @type {(SideBySide & { reproduce: any }) | null} */ (ran ? value : null);
  const run = () => {
    const wanted = JSON.stringify({ ...body, text, system });
    setQuery({ text, system, run: 1 }, { push: true });
    if (wanted === ran) again();
    setRan(wanted);
  };
  /** @param {readonly string[]} edits */
  const change = (edits) => setQuery({ edits: edits.join("\n") });
  /** @param {string} edit */
  const add = (edit) => change([...body.edit, edit]);
  /** @param {KeyboardEvent} event */
  const press = (event) => {
    if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    if (ready) run();
  };
  const ready = text.trim() !== "" && fits(text) && body.edit.length > 0;
  const isStale = ran !== "" && JSON.stringify({ ...body, text, system }) !== ran;
  return html`<header class="title"><h1>Steering</h1><p class="quiet">the same prompt without and with edits, with the same random numbers</p></header>
    <div class="steer">
      <section class="panel" id="edits"><h2>Edits</h2>
        <${PartFinder} index=${index} text=${text} onAdd=${add} />
        <${EditList} index=${index} edits=${body.edit} onChange=${change} />
      </section>
      <section class="panel testbox" id="prompt">
        <div class="bar-head"><h2>Prompt</h2><span class="choice" role="group" aria-label="kind of prompt">
          <button aria-pressed=${!body.chat} onClick=${() => setQuery({ chat: null })}>Text</button><button aria-pressed=${body.chat} onClick=${() => setQuery({ chat: 1 })}>Chat</button></span></div>
        ${body.chat && html`<input class="system" dir="auto" aria-label="system prompt" maxlength=${TEXT_CHARS} placeholder="System prompt (none)" value=${system} onInput=${(/** @type {any} */ event) => setSystem(event.currentTarget.value)} />`}
        <div class="entry">
          <${TextBox} id="test-text" label="prompt" rows=${3} hint=${body.chat ? "What the user says" : "A text that is continued"} text=${text} set=${setText} press=${press} />
          <button class="main" id="run" disabled=${!ready} onClick=${run}>Run</button>
        </div>
        <${TooLong} text=${text} />
        <p class="numbers">${NUMBERS.map(([name, label, usual, tip]) => html`<label data-tip=${tip}>${label} <input type="number" name=${name} min="0" max=${name === "tokens" ? 200 : undefined} step=${name === "temperature" ? 0.1 : 1} value=${body[name]}
          onChange=${(/** @type {any} */ event) => setQuery({ [name]: Number(event.currentTarget.value) === usual ? null : event.currentTarget.value })} /></label>`)}</p>
        ${loading && html`<${ModelWait} index=${index} />`}
        ${isStale && !loading && html`<p class="note">Changed since it ran.</p>`}
      </section>
    </div>
    ${error && html`<${ErrorPanel} error=${error} again=${again} />`}
    ${!ran && html`<${Empty} title="Nothing has run yet"><p>Add a feature or a direction, write a prompt, and run.</p></${Empty}>`}
    ${answer && html`<div class=${loading || isStale ? "stale" : ""}><${TwoAnswers} answer=${answer} /></div>
      <${DosesPanel} index=${index} body=${JSON.parse(ran)} key=${ran} />
      <${Reproduce} recipe=${answer.reproduce} json=${address(url, JSON.parse(ran))} />`}`;
}
