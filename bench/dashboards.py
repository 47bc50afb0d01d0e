"""Dashboards of a whole dictionary, over SAEDashboard 0.8: the same model (demo), dictionary (4,608 features, k 32, layer 15) and tokens.

The peer is its `SaeVisRunner` on TransformerLens with the same weights, batches of 128 features written as JSON. A run of the whole dictionary is 36
such batches; two are run and the median stands for each. By default it runs the model anew for every batch of features; with a folder for activations
it runs it once, which is the second figure. Ours is all of `build_index` and the same features written as SAEDashboard's batches of JSON.
Equality: of every feature of the peer's batches the 20 strongest activations that it shows (it leaves out the first 6 and last 5 tokens of a context)
and the tokens that the feature raises most.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: idle threads sleep

import numpy as np
import torch
from material import D_DICT, SITE, K, Material, material
from rows import row, say

from microtome.features import FeatureIndex, build_index
from microtome.features.exchange import Wanted, export_index
from microtome.models import load

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "peers"))
CONTEXT, BATCH, BATCHES, SHOWN, EDGES = 128, 128, 2, 20, (6, 5)
TOKENS = 2_048 if "--quick" in sys.argv else 12_288


def main() -> None:
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as name:
        folder, model = Path(name), load("demo")
        given = material(model, tokens=TOKENS, context_length=CONTEXT)
        model.capture(torch.from_numpy(given.tokens[:2].astype(np.int64)), (SITE,))
        start = time.perf_counter()
        index = build_index(given.dictionary, None, corpus=given.corpus, model=model, out=folder / "index", workspace=given.workspace)
        built = time.perf_counter()
        export_index(index.store, folder / "export", format_name="saedashboard", wanted=Wanted())
        ours = time.perf_counter() - start
        say(f"ours: {ours:.1f} s, of which {built - start:.1f} s the index")
        path = str(model.hf.config._name_or_path)
        del model
        for cached, bar in ((False, 20.0), (True, 1.0)):
            peer = _peer(given, path, folder / "peer.npz", cached=cached)
            equal = _equal(index, given, folder / "peer.npz")
            whole = statistics.median(peer[1:] if cached else peer) * D_DICT / BATCH
            say(f"SAEDashboard{', activations kept' if cached else ''}: {', '.join(f'{each:.1f}' for each in peer)} s a batch")
            kept = " that keeps activations" if cached else ""
            row(
                f"dashboards of {D_DICT:,} features, SAEDashboard{kept} ÷ ours",
                ratio=whole / ours,
                bar=bar,
                ours=round(ours, 1),
                peer=round(whole, 1),
                unit="s",
                equal=equal,
            )


def _peer(given: Material, model: str, out: Path, *, cached: bool) -> list[float]:
    from setup import python_of

    batches = BATCHES + cached  # the first fills the cache
    script = [python_of("saelens"), HERE / "peers" / "saedashboard_run.py", model, given.weights, SITE.layer, K, batches, out]
    command = [*map(str, script), *(["cached"] if cached else [])]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    return json.loads(done.stdout.splitlines()[-1])["seconds"]


def _equal(index: FeatureIndex, given: Material, peer: Path) -> str:
    with np.load(peer) as held:
        shown, raised = held["shown"], held["raised"]
    kept = np.zeros(given.tokens.shape, bool)
    kept[:, EDGES[0] : -EDGES[1]] = True
    same = 0
    for feature, theirs in enumerate(shown):
        firings = index.store.postings.feature(feature)
        ours = np.sort(firings.values[kept.ravel()[firings.positions]])[::-1][:SHOWN]
        ours = np.pad(ours, (0, SHOWN - len(ours)))
        assert np.allclose(ours, np.sort(theirs[:SHOWN])[::-1], rtol=2e-3, atol=1e-3), (feature, ours, theirs)
        listed = [int(each) for each in index.store.rows.row(feature)["top_ids"][: raised.shape[1]]]
        same += listed == raised[feature].tolist()
    return f"the 20 strongest activations of {len(shown)} features; the same {raised.shape[1]} tokens raised, in the same order, of {same} of them"


if __name__ == "__main__":
    main()
