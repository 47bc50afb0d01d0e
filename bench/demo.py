"""The demo from nothing: wall time ≤ 12 min, of which training < 2 min, peak memory ≤ 4 GB, and a second run of seconds.

Workspace and cache are empty, so that the model and the text are downloaded and converted, and the kernels compiled; `--cached` begins with the cache
of this machine instead. Set-up by pip is not included.
`--keep DIR` makes the workspace there and leaves it (DIR must not hold one yet).
Scaled-down runs (`--tokens`, `--features`, `--train-tokens`) are for trying this script; their figures are not compared with the limits.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rows import say, within

MINUTE = 60.0


def run(workspace: Path, options: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """One `microtome demo --no-serve --json` in a fresh process; its answer, with its wall time."""
    command = [sys.executable, "-m", "microtome", "demo", "--no-serve", "--json", "--workspace", str(workspace), *options]
    began = time.monotonic()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, env=environment)
    return {**json.loads(done.stdout), "wall_s": time.monotonic() - began}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cached", action="store_true", help="begin with the cache of this machine")
    parser.add_argument("--keep", type=Path, default=None, help="make the workspace in this folder and leave it")
    arguments, options = parser.parse_known_args()
    if arguments.keep is not None and arguments.keep.exists():
        sys.exit(f"{arguments.keep} is there already; its steps would cost nothing")
    folder = Path(tempfile.mkdtemp(prefix="microtome-bench-"))
    workspace = arguments.keep or folder / "demo"
    environment = {**os.environ, **({"MICROTOME_CACHE": str(folder / "cache")} if not arguments.cached else {})}
    try:
        first = run(workspace, options, environment)
        second = run(workspace, options, environment)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    steps = {step["step"]: step for step in first["steps"]}
    for step in steps.values():
        say(f"{step['step']:8} {step['seconds']:7.1f} s  peak {step['peak_memory_bytes'] / 1e9:.2f} GB")
    if options:
        say("scaled down: no figures are reported")
        return
    state = "model and text cached" if arguments.cached else "model and text downloaded"
    within("demo, whole", first["wall_s"] / MINUTE, limit=12.0, unit="min", equal=state)
    within("demo, training", steps["train"]["seconds"] / MINUTE, limit=2.0, unit="min", equal="learning-rate search and quality included")
    peak = max(step["peak_memory_bytes"] for step in steps.values())
    within("demo, peak memory", peak / 1e9, limit=4.0, unit="GB")
    within("demo, second run", second["wall_s"], limit=20.0, unit="s", equal="every artifact was there already")


if __name__ == "__main__":
    main()
