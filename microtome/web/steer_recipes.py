"""The lines under the steering page: the same from Python, and the command where there is one."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import Request

from microtome.directions import Direction
from microtome.steering import EditSet
from microtome.web.recipes import curl_of

if TYPE_CHECKING:
    from microtome.web.api_steer import DosesBody, SteerBody


def compare_lines(workspace: Path, ref: str, given: "SteerBody", *, edits: EditSet, request: Request) -> dict[str, str]:
    """Both continuations."""
    call = "side_by_side(compare(model, prompt, edits=edits, sampling=sampling, dictionaries=library.dictionaries))"
    names = "Sampling, compare, side_by_side"
    return {"python": _python(workspace, ref, given, edits=edits, names=names, call=call), "shell": curl_of(request, body=_body(given))}


def sweep_lines(workspace: Path, ref: str, given: "DosesBody", *, edits: EditSet, request: Request) -> dict[str, str]:
    """Dose against effect."""
    call = (
        "bench = Bench(model=model, prompts=[prompt], sampling=sampling, dictionaries=library.dictionaries)\n"
        f"sweep(bench, edits, measure=measure_of({given.measure!r}), doses={given.dose!r}, controls=Controls(random={given.random}))"
    )
    names = "Bench, Controls, Sampling, measure_of, sweep"
    return {"python": _python(workspace, ref, given, edits=edits, names=names, call=call), "shell": curl_of(request, body=_body(given))}


def parts_lines(workspace: Path, *, request: Request) -> dict[str, str]:
    """The names of directions."""
    python = f"from microtome.artifacts import Workspace\n\nWorkspace({str(workspace)!r}).names('direction')"
    return {"python": python, "shell": curl_of(request)}


def _python(workspace: Path, ref: str, given: "SteerBody", *, edits: EditSet, names: str, call: str) -> str:
    is_chat = given.chat or bool(given.system)
    head = ["from microtome.artifacts import Workspace"]
    head += ["from microtome.directions import asked"] if is_chat else []
    head += ["from microtome.models import load", f"from microtome.steering import {names}", "from microtome.steering.serving import Library", ""]
    prompt = f"asked({given.text!r}, system={given.system!r})" if is_chat else repr(given.text)
    lines = [
        f"library = Library(Workspace({str(workspace)!r}))",
        f"edits = library.edits({_short(edits, given.edit)!r})",
        f"model = load({ref!r})",
        f"prompt = {prompt}",
        f"sampling = Sampling(max_new_tokens={given.tokens}, temperature={given.temperature!r}, seed={given.seed})",
    ]
    return "\n".join([*head, *lines, call])


def _short(edits: EditSet, words: Sequence[str]) -> dict[str, Any]:
    """The set as JSON with the fields that say something, directions by the names that the words give them."""
    made: list[dict[str, Any]] = []
    for edit, text in zip(edits.edits, words, strict=True):
        values = {name: value for name, value in edit.to_json().items() if name not in ("where", "dose", "sites")}
        if isinstance(getattr(edit, "component", None), Direction):
            name = text.strip().partition(" ")[2].strip()
            values["component"] = name if edit.kind == "ablate" else name.rpartition("=")[0]
        made.append(values)
    return {"edits": made, "on_conflict": edits.on_conflict}


def _body(given: "SteerBody") -> dict[str, Any]:
    return json.loads(given.model_dump_json())
