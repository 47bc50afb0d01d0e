"""Extracting the assistant axis of thirty roles on the demo model, by the command, against ten minutes on two cores.

Fifty replies a role (5 system prompts × 10 questions, the least that "The Assistant Axis" lets count; it asks 1,200 and keeps what a judge finds
in role, and we have no judge) of at most 24 tokens, and forty of the default assistant: 1,540 replies. Replies are kept as they come, so the
script may be stopped and run again: the seconds of all runs with the same folder are added up. `--roles 8` measures a part.

    python bench/axis.py [FOLDER] [--roles N]    FOLDER: bench/.work/axis unless given

Equality: an interrupted run and one without a stop give the same vector, to the bit (asserted on two roles).
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: idle threads sleep

from rows import say, within

LIMIT_S = 600.0
ALL_ROLES, DEFAULT_REPLIES, REPLIES = 30, 40, 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parent / ".work" / "axis")
    parser.add_argument("--roles", type=int, default=ALL_ROLES)
    asked = parser.parse_args()
    folder, roles = asked.folder, asked.roles
    folder.mkdir(parents=True, exist_ok=True)
    ledger = folder / "seconds.json"
    before = json.loads(ledger.read_text()) if ledger.is_file() else 0.0
    start = time.perf_counter()
    command = ["direction", "axis", "demo", "--roles", str(roles), "--prompts", "5", "--questions", "10", "--max-new-tokens", "24"]
    done = run([*command, "--name", f"axis-{roles}"], folder, on_tick=lambda: ledger.write_text(json.dumps(before + time.perf_counter() - start)))
    took = json.loads(ledger.read_text())
    say(json.dumps({name: done[name] for name in ("results", "notes", "default_coordinate")}, indent=1))
    replies = roles * REPLIES + DEFAULT_REPLIES
    share = replies / (ALL_ROLES * REPLIES + DEFAULT_REPLIES)
    say(f"{replies} replies in {took:.1f} s")
    name = f"the axis of {ALL_ROLES} roles, fifty replies each"
    if share < 1:
        name += f" (from {roles} roles, {share:.0%} of the replies, in proportion)"
    within(name, took / share / 60, limit=LIMIT_S / 60, unit="min", equal=resumed(folder))


def resumed(folder: Path) -> str:
    """Two roles, one run with its second half taken away before, one without a stop."""
    vectors: list[str] = []
    command = ["direction", "axis", "demo", "--roles", "2", "--questions", "2", "--max-new-tokens", "8"]
    for name in ("stopped", "whole"):
        place = folder / name
        done = run([*command, "--name", "once"], place)
        if name == "stopped":
            kept = next((place / "replies").glob("*.jsonl"))
            kept.write_text("".join(f"{line}\n" for line in kept.read_text().splitlines()[:5]))
            done = run([*command, "--name", "again"], place)
        vectors.append(done["directions"][0]["fingerprint"])
    assert vectors[0] == vectors[1], vectors
    return "a run that was stopped and went on gives the same vector"


def run(command: list[str], folder: Path, *, on_tick: Callable[[], object] | None = None) -> dict[str, Any]:
    process = subprocess.Popen(
        [sys.executable, "-m", "microtome", *command, "--workspace", str(folder), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while True:
        if on_tick is not None:
            on_tick()
        try:
            out, err = process.communicate(timeout=2)
            break
        except subprocess.TimeoutExpired:
            continue
    assert process.returncode == 0, err[-2000:]
    if on_tick is not None:
        on_tick()
    return json.loads(out)


if __name__ == "__main__":
    main()
