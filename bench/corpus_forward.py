"""Reading a corpus' activations (demo model, layer 15, 12,288 tokens of text in contexts of 256): tokens a second, by turns in one process, medians.

    ours                what a harvest does: a core each, batches of 512 tokens, products by oneDNN, compiled attention
    one forward a core  the same with MICROTOME_NATIVE=0: Hugging Face's forward, which ours was before
    one forward         Hugging Face's forward of 32 contexts on all cores, as SAELens, delphi and TransformerLens run it

All three end behind layer 15. Equality: every token's activation to 1e-4 of its norm; beside it stands how far the two plain forwards are apart. The
limit is what one core reaches in one product of a batch by arranged weights (512 × 1,536 by 1,536 × 576, oneDNN), times the cores; counted are the
products by weights alone, so that 1 is out of reach.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from unittest.mock import patch

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: idle threads sleep

import numpy as np
import numpy.typing as npt
import torch
from limits import product_limit
from material import SITE, material
from rows import row
from torch import nn

from microtome.activations import HarvestConfig, capture_contexts, context_batches
from microtome.devices import core_workers
from microtome.models import Model, Site, load
from microtome.shapes import Tensor

TOKENS, CONTEXT, WIDE = 12_288, 256, 8_192
TURNS = 2 if "--quick" in sys.argv else 7


def main() -> None:
    torch.set_num_threads(2)
    model = load("demo")
    corpus = material(model, tokens=TOKENS, context_length=CONTEXT).corpus
    config = HarvestConfig(sites=(SITE,), dtype="float32")

    def read(contexts: npt.NDArray[np.int64]) -> tuple[int, Tensor]:
        starts, ends = corpus.context_start[contexts], corpus.context_start[contexts + 1]
        return int(contexts[0]), capture_contexts(model, corpus, config=config, starts=starts, ends=ends)[SITE].flatten(0, 1)

    small, large = (list(context_batches(corpus, span=(0, TOKENS), batch_tokens=size)) for size in (512, WIDE))

    def one_a_core() -> Tensor:
        with core_workers(model.device) as run_all:
            return _joined(run_all(read, small))

    def plainly(way: Callable[[], Tensor]) -> Tensor:
        with patch.dict(os.environ, MICROTOME_NATIVE="0"):
            return way()

    ways: dict[str, Callable[[], Tensor]] = {
        "ours": one_a_core,
        "one forward a core": lambda: plainly(one_a_core),
        "one forward": lambda: plainly(lambda: _joined(map(read, large))),
    }
    found = {name: way() for name, way in ways.items()}
    plain = found["one forward a core"]
    apart, usual = (float((found[name] - plain).norm(dim=-1).div(plain.norm(dim=-1)).max()) for name in ("ours", "one forward"))
    assert apart < 1e-4, apart
    equal = f"every activation to {apart:.0e} of its norm (plain forwards of different batches: {usual:.0e})"
    seconds = {name: list[float]() for name in ways}
    for _ in range(TURNS):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    speed = {name: TOKENS / statistics.median(each) for name, each in seconds.items()}
    for name, bar in (("one forward a core", 1.05), ("one forward", 1.1)):
        row(
            f"reading a corpus ÷ Hugging Face's forward, {name}",
            ratio=speed["ours"] / speed[name],
            bar=bar,
            ours=round(speed["ours"]),
            peer=round(speed[name]),
            unit="tokens/s",
            equal=equal,
        )
    reached, limit = speed["ours"] * _flops_a_token(model) / 1e9, product_limit(512, 1_536, 576)
    row("share of the product limit in reading a corpus", ratio=reached / limit, bar=0.7, ours=round(reached), peer=round(limit), unit="GFLOP/s")


def _joined(results: Iterable[tuple[int, Tensor]]) -> Tensor:
    return torch.cat([x for _, x in sorted(results, key=lambda item: item[0])])


def _flops_a_token(model: Model) -> int:
    """Of the products by weights up to the layer that is read."""
    assert SITE.layer is not None
    blocks = [model.module(Site("resid_pre", layer)) for layer in range(SITE.layer + 1)]
    return 2 * sum(module.weight.numel() for block in blocks for module in block.modules() if isinstance(module, nn.Linear))


if __name__ == "__main__":
    main()
