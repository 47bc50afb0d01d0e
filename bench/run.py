"""Runs every script of this folder, adds the machine and the command to each figure, and rewrites results.jsonl and the table in README.md.

    .venv/bin/python bench/run.py            all of them
    .venv/bin/python bench/run.py imports    only these; the other figures stay as they were

A script that fails is named and its old figures are dropped; the exit code is then 1.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rows import say

from microtome.artifacts import write_atomic
from microtome.devices import machine, quiet_threads

HERE = Path(__file__).parent
RESULTS, README = HERE / "results.jsonl", HERE / "README.md"
NOT_SCRIPTS = {"run", "rows"}
BEGIN, END = "<!-- table -->", "<!-- /table -->"


def scripts() -> list[str]:
    """Names of the scripts: the files here that can be run alone."""
    names = sorted(file.stem for file in HERE.glob("*.py"))
    return [name for name in names if name not in NOT_SCRIPTS and 'if __name__ == "__main__"' in (HERE / f"{name}.py").read_text()]


def measure(name: str, on: str) -> list[dict[str, Any]] | None:
    """The figures of one script; None when it failed."""
    command = f"python bench/{name}.py"
    say(f"=== {command}")
    done = subprocess.run(
        [sys.executable, f"bench/{name}.py"], cwd=HERE.parent, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        say(f"=== bench/{name}.py failed with exit code {done.returncode}")
        return None
    figures = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return [{**figure, "machine": on, "command": command} for figure in figures]


def table(figures: list[dict[str, Any]]) -> str:
    """The figures as Markdown."""
    lines = ["| what | ratio | bar | | ours | peer or limit | equal | script |", "|---|---|---|---|---|---|---|---|"]
    for figure in figures:
        state = "ok" if figure["ratio"] >= figure["bar"] else "**below**"
        values = [f"{figure[side]:,.4g} {figure['unit']}" for side in ("ours", "peer")]
        script = figure["command"].removeprefix("python bench/")
        cells = [figure["name"], f"{figure['ratio']:.2f}", f"{figure['bar']:g}", state, *values, figure["equal"] or "–", f"`{script}`"]
        lines.append("| " + " | ".join(cells) + " |")
    machines = sorted({figure["machine"] for figure in figures})
    return "\n".join([*lines, "", *(f"Measured on: {machine_line}." for machine_line in machines)])


def main() -> int:
    wanted = sys.argv[1:] or scripts()
    unknown = [name for name in wanted if name not in scripts()]
    if unknown:
        say(f"no such script: {', '.join(unknown)}; there are {', '.join(scripts())}")
        return 2
    quiet_threads()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    on = machine()
    before = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.is_file() else []
    fresh: dict[str, list[dict[str, Any]] | None] = {name: measure(name, on) for name in wanted}
    figures = [figure for figure in before if not any(figure["command"].endswith(f"/{name}.py") for name in wanted)]
    figures += [figure for found in fresh.values() if found for figure in found]
    figures.sort(key=lambda figure: scripts().index(Path(figure["command"]).stem) if Path(figure["command"]).stem in scripts() else -1)
    write_atomic(RESULTS, "".join(json.dumps(figure, ensure_ascii=False) + "\n" for figure in figures))
    head, _, rest = README.read_text().partition(BEGIN)
    write_atomic(README, f"{head}{BEGIN}\n{table(figures)}\n{END}{rest.partition(END)[2]}")
    return int(any(found is None for found in fresh.values()))


if __name__ == "__main__":
    sys.exit(main())
