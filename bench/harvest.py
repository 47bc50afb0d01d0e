"""Harvesting tokens a second, over those of a plain forward of the same model cut behind the same layer.

Ours is all of `harvest`: batches are put together, the demo model runs up to layer 15, values are checked, cast to bfloat16, written to disk
and hashed. The peer is transformers alone: a model of 16 layers with the same weights, without final norm, logits or cache, run over the same
batches, already padded, its outputs thrown away. They take turns; each figure is the median. Equality: every stored row is the peer's, rounded
to bfloat16.
"""

import copy
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: idle threads sleep

import torch
from rows import row, say

from microtome.activations import Corpus, CorpusConfig, HarvestConfig, Shards, build_corpus, context_batches, harvest
from microtome.models import Model, Site, load

SITE = Site("resid_post", 15)
THREADS = 2
TOKENS = 12_000
ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One forward's input, and where its real tokens stand in the corpus."""

    tokens: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor
    """Global positions of the real tokens, in the order of `mask`."""


def main() -> None:
    torch.set_num_threads(THREADS)
    quick = "--quick" in sys.argv
    model = load("demo")
    with tempfile.TemporaryDirectory() as folder:
        corpus = build_corpus(model, CorpusConfig(source="wiki", max_tokens=4_000 if quick else TOKENS), out=Path(folder) / "corpus")
        config = HarvestConfig(sites=(SITE,))
        plain, batches = cut(model, layers=16), batches_of(corpus, batch_tokens=config.forward_tokens(model.device))
        shards = harvest(model, corpus, config=config, out=Path(folder) / "first")
        equal = same_rows(shards, plain, batches=batches, n_tokens=corpus.n_tokens)
        ours: list[float] = []
        peer: list[float] = []
        for number in range(1 if quick else ROUNDS):
            ours.append(timed(lambda out=Path(folder) / f"round-{number}": harvest(model, corpus, config=config, out=out)))
            peer.append(timed(lambda: [forward(plain, batch) for batch in batches]))
            say(f"round {number + 1}: ours {corpus.n_tokens / ours[-1]:.0f} tokens/s, plain forward {corpus.n_tokens / peer[-1]:.0f} tokens/s")
    took, plain_took = statistics.median(ours), statistics.median(peer)
    row(
        "harvesting, tokens/s ÷ plain forward",
        ratio=plain_took / took,
        bar=0.95,
        ours=round(corpus.n_tokens / took),
        peer=round(corpus.n_tokens / plain_took),
        unit="tokens/s",
        equal=equal,
    )


def cut(model: Model, *, layers: int) -> Any:
    """The model's first layers as transformers makes them, sharing its weights but none of our hooks."""
    whole: Any = model.hf.model
    config = copy.deepcopy(model.hf.config)
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]
    plain = type(whole)(config)
    kept = plain.state_dict().keys()
    plain.load_state_dict({name: value for name, value in whole.state_dict().items() if name in kept}, assign=True)
    plain.norm = torch.nn.Identity()
    return plain.eval()


def batches_of(corpus: Corpus, *, batch_tokens: int) -> list[Batch]:
    """The batches that the harvest of a single shard runs, padded on the right."""
    made: list[Batch] = []
    for contexts in context_batches(corpus, span=(0, corpus.n_tokens), batch_tokens=batch_tokens):
        spans = [(int(corpus.context_start[context]), int(corpus.context_start[context + 1])) for context in contexts]
        tokens = torch.zeros(len(spans), max(end - start for start, end in spans), dtype=torch.int64)
        mask = torch.zeros_like(tokens, dtype=torch.bool)
        for line, (start, end) in enumerate(spans):
            tokens[line, : end - start] = torch.from_numpy(corpus.tokens[start:end])
            mask[line, : end - start] = True
        made.append(Batch(tokens=tokens, mask=mask, positions=torch.cat([torch.arange(start, end) for start, end in spans])))
    return made


@torch.inference_mode()
def forward(plain: Any, batch: Batch) -> torch.Tensor:
    """The residual stream after the last layer that is left. No mask, its fastest form: causal attention hides padding on the right."""
    return plain(input_ids=batch.tokens, use_cache=False).last_hidden_state


def same_rows(shards: Shards, plain: Any, *, batches: list[Batch], n_tokens: int) -> str:
    """Assert that the stored rows are the plain forward's."""
    stored = torch.cat([shards.block(shard, SITE).x for shard in range(len(shards.ranges))])
    rows = torch.empty_like(stored)
    for batch in batches:
        rows[batch.positions] = forward(plain, batch)[batch.mask].to(rows.dtype)
    assert len(stored) == n_tokens
    different = int((stored != rows).sum())
    assert torch.allclose(stored.float(), rows.float(), rtol=2**-7, atol=1e-3), "a stored row is not the plain forward's"
    assert different < 1e-3 * stored.numel(), f"{different} values of {stored.numel()} differ"
    return (
        "every stored value, to the bit"
        if different == 0
        else f"every stored value within one bfloat16 step, {different} of {stored.numel()} not the same"
    )


def timed(work: Callable[[], object]) -> float:
    """Seconds that a piece of work took."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
