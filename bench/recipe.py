"""A transcoder for each of the demo model's 30 layers, from text: `microtome train --recipe demo-plt` at most 20 minutes and 6 GB on 2 cores.

2,048 features a layer, k 16, trained on 1,000,000 tokens: 200,000 of Wikipedia's introductions, each seen five times on its way through a shuffle
buffer. Everything is in the time: loading the model, tokenizing, the forwards, the learning-rate search, the training and the quality. The model and
the text must have been fetched before. Held-out FVU is compared with a quick study of the same sizes (300,000 tokens, 3 epochs), on all held-out
tokens but the first of a context. The dictionary's own figures leave out attention sinks too (2 % of the tokens, whose MLP outputs are up to 40 times
as long): they are easily reconstructed, and FVU without them is higher.
The workspace is left in bench/.work/plt for the scripts that use the set; `--keep DIR` makes it elsewhere.
"""

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

from rows import say, within

STUDY = {1: 0.33, 8: 0.45, 15: 0.48, 22: 0.40}
"""Held-out FVU of the study, by layer."""
HELD_OUT = 16_384
GIGABYTE = 1e9


def peak_of(run: subprocess.Popen[str]) -> list[int]:
    """The largest resident size of a process, kept up to date in a list of one while it runs."""
    peak, status = [0], Path(f"/proc/{run.pid}/status")

    def watch() -> None:
        while run.poll() is None:
            lines = status.read_text().splitlines() if status.exists() else []
            peak[0] = max([peak[0], *(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))])
            time.sleep(1)

    threading.Thread(target=watch, daemon=True).start()
    return peak


def fvu_with_sinks(workspace: Path) -> dict[int, float]:
    """FVU of some layers on held-out rows, those of attention sinks among them."""
    from microtome.activations import build_corpus
    from microtome.dictionaries import DictionarySet, load_any
    from microtome.models import Site, load
    from microtome.training import RECIPES, FromForward

    recipe, model = RECIPES.get("demo-plt"), load("demo", selfcheck=False)
    corpus = build_corpus(model, dataclasses.replace(recipe.corpus, sink_norm_ratio=None), out=workspace / "corpora" / "with-sinks")
    sites = tuple(Site(kind, layer) for layer in STUDY for kind in ("mlp_in", "mlp_out"))
    rows = FromForward(model=model, corpus=corpus, config=recipe.forward).held(sites, pooling="token", n=HELD_OUT, split="test").rows
    transcoders, found = load_any(workspace / "dictionaries" / "demo-plt"), dict[int, float]()
    assert isinstance(transcoders, DictionarySet)
    for layer in STUDY:
        read, written = (rows[Site(kind, layer)].float() for kind in ("mlp_in", "mlp_out"))
        made = transcoders.member(Site("mlp_in", layer)).reconstruct(read)
        found[layer] = float((made - written).square().sum() / (written - written.mean(0)).square().sum())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, default=None, help="a new folder for the workspace")
    keep: Path | None = parser.parse_args().keep
    workspace = keep or Path(__file__).parent / ".work" / "plt"
    if keep is None:
        shutil.rmtree(workspace, ignore_errors=True)
    elif keep.exists():
        parser.error(f"{keep} is there already")
    command = [sys.executable, "-m", "microtome", "train", "--recipe", "demo-plt", "--workspace", str(workspace), "--json"]
    began = time.monotonic()
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, env={**os.environ, "OMP_WAIT_POLICY": "passive"})
    peak = peak_of(run)
    answer = json.loads(run.communicate()[0] or "{}")
    if run.returncode:
        sys.exit("the recipe failed")
    minutes = (time.monotonic() - began) / 60
    sites = {site["site"]: site for site in answer["quality"]["by_site"]}
    without_sinks = ", ".join(f"layer {layer} {sites[f'L{layer}.mlp_out']['fvu']['value']:.3f}" for layer in STUDY)
    found = fvu_with_sinks(workspace)
    beaten = ", ".join(f"layer {layer} {found[layer]:.3f} of {STUDY[layer]}" for layer in STUDY)
    recovered = answer["quality"]["ce_recovered"]
    say(f"FVU {beaten}; without sinks {without_sinks}")
    say(f"all layers replaced: cross-entropy recovered {recovered['value'] if recovered else 'undefined'}")
    within("transcoders of 30 layers from text, 1M tokens", minutes, limit=20.0, unit="min", equal=f"held-out FVU {beaten}")
    within("transcoders of 30 layers, peak memory", peak[0] / GIGABYTE, limit=6.0, unit="GB")
    for layer, fvu in STUDY.items():
        within(f"transcoders of 30 layers, FVU of layer {layer} beside the study's", found[layer], limit=fvu, unit="FVU")


if __name__ == "__main__":
    main()
