"""Every architecture, trained from the command line on the demo model's activations, keeps what dictionaries promise and beats its controls.

60,000 tokens of Wikipedia's introductions at the MLPs of layers 8 and 9; 1,024 features, 200,000 tokens a training, a learning rate of 2e-3.
Asserted of each: `check_dictionary` (on random rows, with a round trip through the native format), and a held-out FVU below those of a random
dictionary and of the mean. The FVU and L0 that it tells are of small trainings at one learning rate: they do not say which architecture is best.

    python bench/architectures.py
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: idle threads sleep

from rows import row, say

from microtome.dictionaries import load_any
from microtome.testing import check_dictionary

LAYERS = (8, 9)
READS, WRITES = ([f"L{layer}.{kind}" for layer in LAYERS] for kind in ("mlp_in", "mlp_out"))
ONE = ["--kind", "sae", "--reads", WRITES[0]]
TRANSCODER = ["--kind", "transcoder", "--reads", READS[0], "--writes", WRITES[0]]
ALL = ["--reads", *READS, "--writes", *WRITES]
SIZE = ["--features", "1024", "--tokens", "200000", "--lr", "2e-3", "--no-splice"]
ARCHITECTURES: dict[str, list[str]] = {
    "SAE, TopK": [*ONE, "--nonlinearity", "topk:k=16"],
    "SAE, BatchTopK": [*ONE, "--nonlinearity", "batchtopk:k=16"],
    "SAE, AbsTopK": [*ONE, "--nonlinearity", "abstopk:k=16"],
    "SAE, ReLU and L1": [*ONE, "--nonlinearity", "relu", "--losses", "l1:coefficient=0.2"],
    "SAE, ReLU and tanh": [*ONE, "--nonlinearity", "relu", "--losses", "tanh"],
    "SAE, JumpReLU and L0": [*ONE, "--nonlinearity", "jumprelu", "--losses", "l0:target=16"],
    "SAE, gated": [*ONE, "--nonlinearity", "gated", "--losses", "l1:coefficient=0.5"],
    "SAE, Matryoshka": [*ONE, "--nonlinearity", "topk:k=16", "--losses", "matryoshka:prefixes=128/512"],
    "transcoder": [*TRANSCODER, "--nonlinearity", "topk:k=16"],
    "transcoder with a skip": [*TRANSCODER, "--nonlinearity", "topk:k=16", "--skip"],
    "per-layer transcoders": ["--kind", "layers", *ALL, "--nonlinearity", "topk:k=16"],
    "per-layer transcoders, JumpReLU": ["--kind", "layers", *ALL, "--nonlinearity", "jumprelu", "--losses", "l0:target=16", "preact"],
    "cross-layer transcoder": ["--kind", "cross-layer", *ALL, "--nonlinearity", "batchtopk:k=16"],
    "cross-layer transcoder, tied": ["--kind", "cross-layer", *ALL, "--nonlinearity", "topk:k=16", "--tied-decoder"],
    "crosscoder": ["--kind", "crosscoder", "--reads", *WRITES, "--nonlinearity", "batchtopk:k=16"],
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        tell(folder, "harvest", "demo", "--corpus", "wiki", "--max-tokens", "60000", "--site", *READS, *WRITES)
        for number, (name, arguments) in enumerate(ARCHITECTURES.items()):
            said = tell(folder, "train", *arguments, "--name", f"d{number}", *SIZE)
            check_dictionary(load_any(Path(folder) / "dictionaries" / f"d{number}"))
            fvu = said["quality"]["fvu"]
            say(f"{name}: FVU {fvu['value']:.3f}, random {fvu['baselines']['random']:.3f}; L0 {said['quality']['l0']['value']:.1f}")
            assert fvu["value"] < min(1, fvu["baselines"]["random"]), f"{name} is no better than its controls: {fvu}"
    count = len(ARCHITECTURES)
    equal = "check_dictionary; held-out FVU below the controls'"
    row("architectures that train on the demo model from the command line", ratio=1, bar=1, ours=count, peer=count, unit="architectures", equal=equal)


def tell(workspace: str, *arguments: str) -> Any:
    """What a command of microtome answers."""
    ran = subprocess.run([sys.executable, "-m", "microtome", *arguments, "-w", workspace, "--json"], capture_output=True, text=True, check=False)
    if ran.returncode:
        sys.exit(f"microtome {' '.join(arguments)} failed:\n{ran.stderr[-3000:]}")
    return json.loads(ran.stdout)


if __name__ == "__main__":
    main()
