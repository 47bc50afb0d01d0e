"""Building the feature index, over eai-delphi's cache of activations: the same model (demo), dictionary (4,608 features, k 32, layer 15) and tokens.

The peer is `LatentCache` of eai-delphi 0.1.3 with its default batches, 5 splits written; it keeps activations alone. Ours is all of `build_index`:
forward, encoding, both postings, examples, densities, logits, neighbours and rule labels of every feature. Loading the model is in neither. Memory is
how far the process' resident size rises above the loaded model (mapped files counted). Each runs in a process of its own, one after the other.
Equality: the active (token, feature) pairs and their values in both.

Ours stops the model behind layer 15; delphi runs it to its last layer, as it always does.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: idle threads sleep

import numpy as np
import torch
from material import D_DICT, SITE, K, material
from rows import row, say, within
from safetensors.numpy import load_file

from microtome.features import FeatureIndex
from microtome.features.postings import INVERTED, Postings, pack_inverted
from microtome.models import load

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "peers"))
CONTEXT = 256
_SAME = {"": None, ", packed": "the firings of every seventh feature"}
TOKENS = 8_192 if "--quick" in sys.argv else 196_608


def main() -> None:
    if "--ours" in sys.argv:
        _ours(Path(sys.argv[-1]))
        return
    from setup import python_of

    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as name:
        folder, model = Path(name), load("demo")
        given = material(model, tokens=TOKENS, context_length=CONTEXT)
        path = str(model.hf.config._name_or_path)
        del model
        peer = _run([python_of("exchange"), HERE / "peers" / "delphi_cache.py", path, given.weights, SITE.layer, K, folder / "delphi"])
        ours = _run([sys.executable, __file__, *(["--quick"] if "--quick" in sys.argv else []), "--ours", folder / "ours"])
        index = FeatureIndex.open(folder / "ours", given.workspace)
        equal = _equal(index, folder / "delphi")
        sizes = _sizes(index, folder)
    for each, found in (("ours", ours), ("delphi", peer)):
        say(f"{each}: {found['seconds']:.1f} s, {found['bytes'] / 1e6:.0f} MB above the model")
    speeds = [TOKENS / each["seconds"] for each in (ours, peer)]
    row(
        "building the index, tokens/s ÷ eai-delphi's cache",
        ratio=speeds[0] / speeds[1],
        bar=2.0,
        ours=round(speeds[0]),
        peer=round(speeds[1]),
        unit="tokens/s",
        equal=equal,
    )
    row(
        "its memory above the model, eai-delphi's ÷ ours",
        ratio=peer["bytes"] / ours["bytes"],
        bar=4.0,
        ours=round(ours["bytes"] / 1e6),
        peer=round(peer["bytes"] / 1e6),
        unit="MB",
        equal=equal,
    )
    for name, limit in (("", 330.0), (", packed", 200.0)):
        within(f"postings of 1M tokens at k {K}, both directions{name}", sizes[name] / TOKENS, limit=limit, unit="MB", equal=_SAME[name])


def _run(command: list[Any]) -> dict[str, float]:
    done = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    return json.loads(done.stdout.splitlines()[-1])


def _ours(out: Path) -> None:
    from peak import beyond

    from microtome.features import build_index

    torch.set_num_threads(2)
    model = load("demo")
    given = material(model, tokens=TOKENS, context_length=CONTEXT)
    model.capture(torch.from_numpy(given.tokens[:2].astype(np.int64)), (SITE,))
    given.corpus.role_of([0])  # pyarrow imports pandas, where it is installed, when a table is first used; the peer has all of its imports, too
    with beyond() as used:
        start = time.perf_counter()
        build_index(given.dictionary, None, corpus=given.corpus, model=model, out=out, workspace=given.workspace)
        seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "bytes": used.bytes}))


def _sizes(index: FeatureIndex, folder: Path) -> dict[str, int]:
    """Bytes of both directions as they are and packed; packed, a feature's firings are the same."""
    forward = sorted(index.path.glob("forward-*.safetensors"))
    pack_inverted(index.path / INVERTED, folder / "packed")
    packed = Postings(forward, folder / "packed", ranges=index.store.postings.ranges)
    for feature in range(0, D_DICT, 7):
        ours, theirs = packed.feature(feature), index.store.postings.feature(feature)
        assert np.array_equal(ours.positions, theirs.positions)
        assert np.array_equal(ours.values, theirs.values)
    rows = sum(file.stat().st_size for file in forward)
    return {"": rows + (index.path / INVERTED).stat().st_size, ", packed": rows + (folder / "packed").stat().st_size}


def _equal(index: FeatureIndex, cache: Path) -> str:
    """The same pairs, to the rounding of two orders of summation, with the same values."""
    n = index.store.corpus.n_tokens
    rows = index.store.postings.rows(start=0, end=n)
    ours = dict(zip((np.repeat(np.arange(len(rows.keep)), np.diff(rows.indptr)) * D_DICT + rows.ids).tolist(), rows.values.tolist(), strict=True))
    theirs: dict[int, float] = {}
    for file in (cache / f"layers.{SITE.layer}").glob("*.safetensors"):
        held = load_file(file)
        first = int(file.stem.split("_")[0])
        where = held["locations"].astype(np.int64)
        keys = (where[:, 0] * CONTEXT + where[:, 1]) * D_DICT + where[:, 2] + first
        theirs |= dict(zip(keys.tolist(), held["activations"].astype(np.float32).tolist(), strict=True))
    both = ours.keys() & theirs.keys()
    apart = 1 - 2 * len(both) / (len(ours) + len(theirs))
    assert len(ours) == n * K, len(ours)
    assert apart < 1e-3, apart
    values = np.array([(ours[key], theirs[key]) for key in both])
    assert np.allclose(values[:, 0], values[:, 1], rtol=2e-3, atol=1e-3), np.abs(values[:, 0] - values[:, 1]).max()
    return f"{len(both):,} active pairs and their values; {apart:.4%} in one alone"


if __name__ == "__main__":
    main()
