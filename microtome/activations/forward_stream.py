"""Rows straight from the model's forward, for sets of sites whose activations would not fit on disk.

30 layers × `mlp_in` and `mlp_out` × 1M tokens are 69 GB as shards. Here each filling of the shuffle's buffer is computed when it is due: groups
of contexts, drawn at random from the whole split, run through the model, their kept rows go into the buffer, and the rows are served permuted.
Which contexts share a forward depends on the corpus and the config alone, so a filling computed again is the same to the bit (same machine),
and a restored stream recomputes the one filling in which it stood: at most one buffer of work, and no activation is ever stored.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
import torch

from microtome.activations.corpus import Corpus
from microtome.activations.harvest import HarvestConfig, capture_contexts, check_finite, check_model_fits, grouped, shard_ranges
from microtome.activations.rows import HeldOut, document_rank
from microtome.activations.shuffle import Filled, Plan, Shuffle, Shuffled, concat_ranges, plan_epoch
from microtome.activations.stream import check_batch_size
from microtome.config import to_dict
from microtome.devices import pick_dtype
from microtome.errors import ConfigError, NotEnoughTokens
from microtome.models import Model, Site
from microtome.shapes import Bool, Tensor

_CALIBRATION_ROWS = 2048


@dataclass(frozen=True, kw_only=True)
class ForwardConfig:
    """How rows are computed, and how many are held."""

    dtype: str = "bfloat16"
    """Type of the served rows: bfloat16, float16 or float32."""
    batch_tokens: int | None = None
    """Tokens a forward; None takes what suits the device, as in `HarvestConfig`."""
    buffer_bytes: int = 2 * 2**30
    """Size of the buffer. It holds as many rows as fit, and more mix better; with two groups of contexts in the forward and the model's own
    size that is all the memory the stream takes."""
    passes: int = 1
    """How often each filling is served, each time in a new order, before the next is computed: learning from a row is cheaper than computing it."""

    def __post_init__(self) -> None:
        if self.passes < 1:
            raise ConfigError("a filling is served at least once.", got=self.passes, wanted="1 or more", do="Correct passes.")

    def harvest(self, sites: tuple[Site, ...]) -> HarvestConfig:
        """The harvest that stores the same rows."""
        return HarvestConfig(sites=sites, dtype=self.dtype, batch_tokens=self.batch_tokens)


@final
class ForwardStream(Shuffled[dict[Site, Tensor]]):
    """An endless iterator of batches `{site: [batch_size, d]}`, the same rows of every site: every kept row of the split `passes` times an epoch.

    Kept are the rows that a harvest keeps, with one difference: a token is a sink when its norm at any site exceeds the corpus'
    `sink_norm_ratio` × the median of a fixed sample of the split, not of its shard.
    """

    def __init__(
        self,
        model: Model,
        corpus: Corpus,
        *,
        sites: Sequence[Site],
        batch_size: int,
        seed: int,
        split: str = "train",
        config: ForwardConfig | None = None,
        limits: dict[Site, float] | None = None,
    ) -> None:
        """`limits` holds the norms above which rows are sinks, and gets those that it lacks: streams of one model and split may share it.

        Raises `ShapeMismatch`, `SiteNotFound`, `NotEnoughTokens` as a harvest and its stream do; `ConfigError` when the buffer is too small.
        """
        check_model_fits(model, corpus)
        check_batch_size(batch_size)
        self.sites = tuple(sites)
        self.split = split
        self.batch_size = batch_size
        self.seed = seed
        self.config = config or ForwardConfig()
        self._model, self._corpus = model, corpus
        self._forward = _Forward(model, corpus, self.config.harvest(self.sites), split=split, limits=limits)
        row_bytes = sum(model.width(site) for site in self.sites) * torch.empty(0, dtype=self._forward.dtype).element_size()
        self.buffer_rows = self.config.buffer_bytes // row_bytes
        largest = int(self._forward.rows.max())
        if self.buffer_rows < largest:
            got, wanted = f"{self.buffer_rows} rows of {row_bytes} bytes", f"{largest} rows or more, which one forward gives"
            raise ConfigError("the buffer is too small.", got=got, wanted=wanted, do="Raise buffer_bytes or lower batch_tokens.")
        self.n_rows = int(self._forward.rows.sum())
        """Different rows an epoch, before sinks are left out: they are known when they are met."""
        rows = _ForwardRows(self._forward, seed=seed, buffer_rows=self.buffer_rows, passes=self.config.passes)
        made = {"model": model.fingerprint, "corpus": corpus.id, "sites": [str(site) for site in self.sites], "config": to_dict(self.config)}
        self._shuffle = Shuffle(rows, identity={**made, "split": split, "seed": seed, "batch_size": batch_size})

    def __next__(self) -> dict[Site, Tensor]:
        return dict(zip(self.sites, self._shuffle.take(self.batch_size), strict=True))

    def fixed(self, n: int, *, split: str = "dev") -> dict[Site, HeldOut]:
        """At most `n` rows of a split, always the same ones and those that `held_out` gives of shards (but for sinks)."""
        forward = self._forward if split == self.split else _Forward(self._model, self._corpus, self.config.harvest(self.sites), split=split)
        rank = document_rank(self._corpus, split=split, seed=self.seed)
        positions = np.flatnonzero(forward.kept)
        order = positions[np.argsort(rank[self._corpus.doc_of(positions)], kind="stable")][: n + n // 16]
        groups = list(_groups(self._corpus, np.unique(self._corpus.context_of(order)), forward.batch_tokens))
        slots = [forward.positions(group) for group in groups]
        buffers = forward.empty(sum(map(len, slots)))
        keep = forward.run(groups, buffers, limits=self._forward.limits).numpy()
        at = np.concatenate(slots)
        found = np.isin(order, at[keep])
        chosen = np.sort(order[found][:n])
        by_position = np.argsort(at)
        rows = torch.from_numpy(by_position[np.searchsorted(at[by_position], chosen)])
        docs = torch.from_numpy(self._corpus.doc_of(chosen))
        shared = torch.from_numpy(chosen)
        return {site: HeldOut(x=x[rows], positions=shared, docs=docs) for site, x in zip(self.sites, buffers, strict=True)}


@final
class _Forward:
    """Runs groups of contexts of one split and keeps their rows."""

    def __init__(self, model: Model, corpus: Corpus, config: HarvestConfig, *, split: str, limits: dict[Site, float] | None = None) -> None:
        for site in config.sites:
            model.site(site)
        self._model, self._corpus, self._config = model, corpus, config
        self.batch_tokens = config.forward_tokens(model.device)
        self.dtype = pick_dtype(config.dtype)
        self.kept = corpus.keep & corpus.in_split(split)
        """True for tokens of the split that the corpus' declared policy keeps, [n_tokens]."""
        if not self.kept.any():
            do = "Use a larger corpus, or other shares in `split`."
            raise NotEnoughTokens(f"the {split} split has no tokens to train on.", got=0, wanted="at least one kept token", do=do)
        per_context = np.add.reduceat(self.kept, corpus.context_start[:-1], dtype=np.int64)
        self.groups = list(_groups(corpus, np.flatnonzero(per_context), self.batch_tokens))
        """Contexts that share a forward, in the order of the corpus' shards."""
        self.rows = np.array([int(per_context[group].sum()) for group in self.groups])
        """Kept rows of each group."""
        self._limits: dict[Site, float] = {} if limits is None else limits

    @property
    def limits(self) -> Mapping[Site, float]:
        """The norm above which a row is a sink; found from a fixed sample of groups the first time."""
        ratio = self._corpus.config.sink_norm_ratio
        if ratio is None:
            return {}
        if not self._limits.keys() >= set(self._config.sites):
            self._limits |= {site: ratio * median for site, median in self._medians().items()}
        return {site: self._limits[site] for site in self._config.sites}

    def empty(self, rows: int) -> tuple[Tensor, ...]:
        """A buffer for each site."""
        return tuple(torch.empty(rows, self._model.width(site), dtype=self.dtype) for site in self._config.sites)

    def positions(self, group: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The kept token positions of a group, context by context."""
        starts = self._corpus.context_start[group]
        places = concat_ranges(starts, self._corpus.context_start[group + 1] - starts)
        return places[self.kept[places]]

    def run(self, groups: Sequence[npt.NDArray[np.int64]], buffers: Sequence[Tensor], *, limits: Mapping[Site, float]) -> Bool[Tensor, "slots"]:
        """Put the kept rows of each group into the buffers, one group behind the other; False marks those that are sinks."""
        starts = np.cumsum([0, *(len(self.positions(group)) for group in groups)])
        keep = torch.ones(int(starts[-1]), dtype=torch.bool)

        def store(number: npt.NDArray[np.int64]) -> int:
            group, at, end = groups[int(number[0])], int(starts[number[0]]), int(starts[number[0] + 1])
            for (site, norms, x), buffer in zip(self._rows_of(group), buffers, strict=True):
                buffer[at:end] = x
                if site in limits:
                    keep[at:end] &= norms <= limits[site]
            return end - at

        with self._model.own_workers("streaming activations") as run_all:
            for _ in run_all(store, np.arange(len(groups))[:, None]):
                pass
        return keep

    def _rows_of(self, group: npt.NDArray[np.int64]) -> Iterator[tuple[Site, Tensor, Tensor]]:
        """Site by site the norms and values of a group's kept rows."""
        starts, ends = self._corpus.context_start[group], self._corpus.context_start[group + 1]
        values = capture_contexts(self._model, self._corpus, config=self._config, starts=starts, ends=ends)
        longest = int((ends - starts).max())
        slots = concat_ranges(np.arange(len(group)) * longest, ends - starts)
        kept = torch.from_numpy(slots[self.kept[concat_ranges(starts, ends - starts)]])
        for site in self._config.sites:
            x = values.pop(site)
            rows = x.flatten(0, 1)[kept]
            norms = torch.linalg.vector_norm(rows, dim=-1, dtype=torch.float32)
            if self.dtype == torch.float16 or not bool(torch.isfinite(norms).all()):
                for row, (low, high) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
                    whole = x[row, : high - low]
                    lengths = torch.linalg.vector_norm(whole, dim=-1, dtype=torch.float32)
                    stored = whole.to(self.dtype)
                    check_finite(self._model, stored, lengths, site=site, corpus=self._corpus, config=self._config, start=low)
            yield site, norms, rows

    def _medians(self) -> dict[Site, float]:
        order = np.random.default_rng(0).permutation(len(self.groups))
        enough = int(np.searchsorted(np.cumsum(self.rows[order]), _CALIBRATION_ROWS)) + 1
        norms: dict[Site, list[Tensor]] = {site: [] for site in self._config.sites}
        for number in order[:enough]:
            for site, found, _ in self._rows_of(self.groups[int(number)]):
                norms[site].append(found)
        return {site: float(torch.cat(found).median()) for site, found in norms.items()}


@final
class _ForwardRows:
    """A filler whose pieces are groups of contexts."""

    def __init__(self, forward: _Forward, *, seed: int, buffer_rows: int, passes: int) -> None:
        self._forward, self._seed, self._buffer_rows, self._passes = forward, seed, buffer_rows, passes
        self._computed: tuple[int, int] | None = None
        """Epoch and number of what the buffers hold."""
        self._rows = np.zeros(0, dtype=np.int64)
        self._buffers: tuple[Tensor, ...] = ()
        self._planned: tuple[int, Plan] | None = None

    def fillings(self, epoch: int) -> int:
        return len(self._plan(epoch).ends) * self._passes

    def fill(self, epoch: int, number: int) -> Filled:
        wanted = (epoch, number // self._passes)
        if self._computed != wanted:
            self._computed = None  # a fill that fails leaves buffers of no filling
            groups = [self._forward.groups[piece] for piece in self._plan(epoch).pieces(wanted[1]).tolist()]
            self._rows = np.flatnonzero(self._forward.run(groups, self._slots(), limits=self._forward.limits).numpy())
            self._computed = wanted
        served = self._rows.copy()
        np.random.default_rng([self._seed, epoch, number]).shuffle(served)
        return Filled(self._buffers, torch.from_numpy(served))

    def _slots(self) -> tuple[Tensor, ...]:
        if not self._buffers:
            rows = min(self._buffer_rows, int(self._forward.rows.sum()))
            self._buffers = self._forward.empty(rows)
        return self._buffers

    def _plan(self, epoch: int) -> Plan:
        if self._planned is None or self._planned[0] != epoch:
            self._planned = (epoch, plan_epoch(self._forward.rows, buffer_rows=self._buffer_rows, seed=self._seed, epoch=epoch))
        return self._planned[1]


def _groups(corpus: Corpus, contexts: npt.NDArray[np.int64], batch_tokens: int) -> Iterator[npt.NDArray[np.int64]]:
    """Groups of the contexts as a harvest makes them, shard by shard."""
    for start, end in shard_ranges(corpus, HarvestConfig.shard_tokens):
        first, last = np.searchsorted(corpus.context_start[contexts], (start, end))
        yield from grouped(corpus, contexts[first:last], batch_tokens=batch_tokens)
