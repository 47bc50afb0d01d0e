"""The lines under every page that give the same from Python and from the shell."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import Request

ODD_CALL = "from microtome.features.odd import odd_report\n\nodd_report(index)"
ABLATION_CALL = "from microtome.features.odd import dense_ablation\n\ndense_ablation(index)"
MAP_CALL = "from microtome.features.geometry import map_of\n\nmap_of(index.store).view(index)"


def recipe(workspace: Path, index: str, call: str, *, shell: str, runs_model: bool = False) -> dict[str, str]:
    """`call` is what to do with `index` in Python; `shell` is a whole command line; `runs_model` loads the model before."""
    lines = ["from microtome.artifacts import Workspace", "from microtome.features import FeatureIndex"]
    if runs_model:
        lines.append("from microtome.models import load")
    lines += ["", f"workspace = Workspace({str(workspace)!r})", f'index = FeatureIndex.open(workspace.find("index", {index!r}), workspace)']
    if runs_model:
        lines.append('model = load(index.overview().sources["model"])')
    return {"python": "\n".join([*lines, call]), "shell": shell}


def call_of(method: str, *values: Any, **options: Any) -> str:
    """`index.method(values, option=…)` as Python text, options that are None left out; `...` among the values stands for the model."""
    arguments = ["model" if value is ... else repr(value) for value in values]
    arguments += [f"{name}={value!r}" for name, value in options.items() if value is not None]
    return f"index.{method}({', '.join(arguments)})"


def links_call(feature: int, **options: Any) -> str:
    """Both ways of a feature's links as Python text."""
    ways = ", ".join(f'"{way}": {call_of(way, feature, **options)}' for way in ("downstream", "upstream"))
    return f"{{{ways}}}"


def dreams_call(feature: int) -> str:
    """What was dreamt of a feature as Python text."""
    return f"from microtome.features.dreaming import dreams_of\n\ndreams_of(index, {feature})"


def shelf_recipe(workspace: Path, kind: str = "index") -> dict[str, str]:
    """The lines of a list of all artifacts of a kind; of the first page that of the indexes."""
    python = f"from microtome.artifacts import Workspace\n\nWorkspace({str(workspace)!r}).names({kind!r})"
    return {"python": python, "shell": show_line(workspace)}


def show_line(workspace: Path, *values: object, text: str | None = None) -> str:
    """The `microtome show` command line."""
    return json_line(workspace, "show", *values, *(() if text is None else ("--text", text)))


def command_line(workspace: Path, *words: object) -> str:
    """Another `microtome` command line, as a page tells a person to run it."""
    return shlex.join(["microtome", *map(str, words), "--workspace", str(workspace)])


def json_line(workspace: Path, *words: object) -> str:
    """The same with its result as JSON."""
    return f"{command_line(workspace, *words)} --json"


def curl_line(base: str, path: str, *, body: Mapping[str, Any] | None = None, needs_token: bool = False) -> str:
    """The request itself, for pages that have no command of their own. The token is left to the environment: lines are copied and shown around."""
    words = ["curl", "-s", base.rstrip("/") + path]
    if body is not None:
        words += ["-H", "X-Microtome: 1", "-H", "Content-Type: application/json", "-d", json.dumps(body, ensure_ascii=False)]
    return shlex.join(words) + (' -H "Authorization: Bearer $MICROTOME_TOKEN"' if needs_token else "")


def curl_of(request: Request, *, body: Mapping[str, Any] | None = None) -> str:
    """The request as a command line: as it was asked, without a token in its query; with a `body`, as a POST to the same path."""
    path = request.scope.get("raw_path", request.scope["path"].encode()).decode("latin-1")
    parts = [part for part in request.url.query.split("&") if part and not part.startswith("token=")]
    query = f"?{'&'.join(parts)}" if parts and body is None else ""
    return curl_line(str(request.base_url), path + query, body=body, needs_token=request.app.state.needs_token)
