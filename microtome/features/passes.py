"""One pass over a corpus' activations: from shards, or from a forward in which every site is captured and nothing is stored."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar, final, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from microtome.activations import Corpus, HarvestConfig, Shards, capture_contexts, check_model_fits, context_batches, shard_ranges, sinks
from microtome.errors import ActivationsNotFinite
from microtome.features.arrays import Array
from microtome.models import Model, Site
from microtome.shapes import Tensor

T = TypeVar("T")
_ROWS = 4096
"""Rows of a shard at a time."""


class Batch(NamedTuple):
    """Activations of some tokens."""

    positions: Array
    """Within the range of the pass, int64 [n]."""
    inputs: Mapping[Site, Tensor]
    """[n, d] by site."""


@dataclass(frozen=True, kw_only=True)
class Visited(Generic[T]):
    """What came of one range of tokens."""

    results: list[T]
    keep: Array
    """Which of the range's tokens count; results can hold some that turned out to be attention sinks."""


@runtime_checkable
class Pass(Protocol):
    """Activations of all tokens of a corpus, range by range."""

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """Half-open ranges of token positions, in the order of the corpus."""
        ...

    def visit(self, number: int, call: Callable[[Batch], T]) -> Visited[T]:
        """Apply `call` to the kept tokens of one range, in batches, maybe in several threads; results in no order."""
        ...


@final
class ShardPass:
    """The rows of shards, where they hold all the sites."""

    def __init__(self, shards: Shards, sites: tuple[Site, ...]) -> None:
        self._shards, self._sites = shards, tuple(shards.site(site) for site in sites)
        self.ranges = shards.ranges

    def visit(self, number: int, call: Callable[[Batch], T]) -> Visited[T]:
        """See `Pass`."""
        blocks = {site: self._shards.block(number, site) for site in self._sites}
        keep = next(iter(blocks.values())).keep
        results: list[T] = []
        for start in range(0, len(keep), _ROWS):
            rows = torch.nonzero(keep[start : start + _ROWS]).squeeze(1) + start
            if len(rows):
                results.append(call(Batch(rows.numpy(), {site: block.x[rows].float() for site, block in blocks.items()})))
        return Visited(results=results, keep=keep.numpy())


@final
class ForwardPass:
    """Straight from the model's forward: each context once, all sites captured together, as a harvest would read them.

    `counted` are the sites whose norms say which tokens are attention sinks (those that a harvest would store).
    """

    def __init__(self, model: Model, corpus: Corpus, *, sites: tuple[Site, ...], counted: tuple[Site, ...]) -> None:
        check_model_fits(model, corpus)
        self._model, self._corpus, self._counted = model, corpus, counted
        self._config = HarvestConfig(sites=sites, dtype="float32")
        self.ranges = shard_ranges(corpus, self._config.shard_tokens)

    def visit(self, number: int, call: Callable[[Batch], T]) -> Visited[T]:
        """See `Pass`."""
        start, end = self.ranges[number]
        norms = {site: torch.zeros(end - start) for site in self._counted}
        kept = self._corpus.keep[start:end]

        def run(contexts: npt.NDArray[np.int64]) -> T:
            starts, ends = self._corpus.context_start[contexts], self._corpus.context_start[contexts + 1]
            captured = capture_contexts(self._model, self._corpus, config=self._config, starts=starts, ends=ends)
            spans = list(enumerate(zip(starts.tolist(), ends.tolist(), strict=True)))
            positions = np.concatenate([np.arange(low, high) for _, (low, high) in spans]) - start
            chosen = torch.from_numpy(kept[positions])
            inputs = {site: torch.cat([x[row, : high - low] for row, (low, high) in spans])[chosen].float() for site, x in captured.items()}
            positions = positions[chosen.numpy()]
            for site in self._counted:
                norms[site][positions] = torch.linalg.vector_norm(inputs[site], dim=-1)
            return call(Batch(positions, inputs))

        batches = context_batches(self._corpus, span=(start, end), batch_tokens=self._config.forward_tokens(self._model.device))
        with self._model.own_workers("reading a corpus") as run_all:
            results = list(run_all(run, batches))
        keep = torch.from_numpy(kept.copy())
        for site, found in norms.items():
            if not bool(torch.isfinite(found).all()):
                near = start + int((~torch.isfinite(found)).nonzero()[0])
                do = "Load the model in float32, leave that document out, or check the weights."
                raise ActivationsNotFinite(
                    f"the activation at {site} of token {near} is not finite.", got="inf or NaN", wanted="finite values", do=do
                )
            keep &= ~sinks(found, keep, self._corpus.config.sink_norm_ratio)
        return Visited(results=results, keep=keep.numpy())
