"""Splicing: a model runs with dictionaries in place of its activations, at one site or at all that they write."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple, TypeAlias, final

import numpy as np
import numpy.typing as npt
import torch

from microtome.activations import SPLITS, Corpus, Shards, SideBySide
from microtome.dictionaries import Crosscoder, Dictionary, SparseCodes
from microtome.models import Edit, Model, Recorded, Replay, Site
from microtome.shapes import Bool, Int, Tensor
from microtome.training.export import Made
from microtome.training.from_forward import FromForward
from microtome.training.measures import members_of

_FORWARD_TOKENS = 512
"""Tokens a forward: their logits over a vocabulary of 50,000 take 100 MB."""
KEPT_BYTES = 2**29
"""Of the hidden states that forwards go on from; where there would be more, some layers have none, and forwards begin a few layers earlier."""
Sums: TypeAlias = npt.NDArray[np.float64]
"""One number a document."""


@dataclass(frozen=True, kw_only=True)
class Spliced:
    """Summed next-token cross-entropy of each document, in nats, by what stood at the site."""

    original: Sums
    dictionary: Sums
    controls: Mapping[str, Sums]
    """By name; the `mean` is always among them."""
    tokens_by_document: Sums
    """Predicted tokens."""

    @property
    def mean(self) -> Sums:
        """With the mean of the activations in their place: where recovery begins."""
        return self.controls["mean"]

    @property
    def tokens(self) -> int:
        """Predicted tokens of all documents."""
        return int(self.tokens_by_document.sum())


@dataclass(frozen=True, kw_only=True)
class Contexts:
    """Some contexts, padded on the right."""

    tokens: Int[Tensor, "batch pos"]
    real: Bool[Tensor, "batch pos"]
    keep: Bool[Tensor, "batch pos"]
    """Tokens that are replaced; the others keep the model's own activation."""
    docs: Int[Tensor, "batch"]


class Variant(NamedTuple):
    """What stands in the model: a dictionary at all sites that it writes, or at `only` one."""

    dictionary: Made
    only: Site | None = None


@final
class Splicer:
    """The same contexts, forward after forward: as they are, and with dictionaries in place of activations.

    The unedited forward is run once, and what comes before the first site that a dictionary reads or writes is not run again (`Replay`). On a CPU
    every core runs forwards of its own.
    """

    def __init__(self, model: Model, contexts: "Sequence[Contexts]") -> None:
        self.model = model
        self._contexts = list(contexts)
        self._replay = Replay(model)
        self._recorded: dict[int, Recorded] = {}
        self._kept: frozenset[int] = frozenset()
        """Layers from which forwards can go on."""
        self._docs = {doc: place for place, doc in enumerate(sorted({int(doc) for batch in self._contexts for doc in batch.docs}))}

    @property
    def tokens_by_document(self) -> Sums:
        """Predicted tokens."""
        return self._summed([(batch.real.sum(1) - 1).double().numpy() for batch in self._contexts])

    @property
    def original(self) -> Sums:
        """Of the unedited model."""
        self._record(frozenset())
        return self._summed([_by_row(self._recorded[number].losses) for number in range(len(self._contexts))])

    def losses(self, variants: Sequence[Variant]) -> list[Sums]:
        """Summed cross-entropy of each document, of each variant.

        Positions that the shards do not keep (specials, template, attention sinks) pass unchanged in every variant. Where several sites are replaced,
        later dictionaries read what the model goes on with. A crosscoder's codes come from the unedited forward: it reads sites behind those that it
        writes.
        """
        there = [Variant(each.dictionary.to(self.model.device), each.only) for each in variants]
        self._record(frozenset(layer for each in there if (layer := _first_layer(each)) is not None))
        found: dict[tuple[int, int], npt.NDArray[np.float64]] = {}

        def run(task: npt.NDArray[np.int64]) -> int:
            number, place = int(task[0]), int(task[1])
            edit = edits_of(self.model, there[place].dictionary, batch=self._contexts[number], only=there[place].only)
            found[number, place] = _by_row(self._replay.loss(self._recorded[number], edit=edit))
            return 1

        with self.model.own_workers("measuring dictionaries in the model") as run_all:
            for _ in run_all(run, (np.array(task) for task in product(range(len(self._contexts)), range(len(there))))):
                pass
        return [self._summed([found[number, place] for number in range(len(self._contexts))]) for place in range(len(there))]

    def _record(self, layers: frozenset[int]) -> None:
        """Run the unedited forwards, unless they were and can be gone on with from these layers, or from near before them."""
        if self._recorded and layers <= self._kept:
            return
        wanted = sorted(layers | self._kept)
        row_bytes = self.model.d_model * self.model.dtype.itemsize * sum(batch.tokens.numel() for batch in self._contexts)
        kept = wanted[:: max(1, -(-row_bytes * len(wanted) // KEPT_BYTES))]
        self._kept = frozenset(wanted)

        def run(task: npt.NDArray[np.int64]) -> int:
            batch = self._contexts[int(task[0])]
            self._recorded[int(task[0])] = self._replay.record(batch.tokens, mask=batch.real, layers=kept)
            return 1

        with self._replay, self.model.own_workers("measuring dictionaries in the model") as run_all:
            for _ in run_all(run, (np.array([number]) for number in range(len(self._contexts)))):
                pass

    def _summed(self, by_context: Sequence[npt.NDArray[np.float64]]) -> Sums:
        """Each context's figure, summed over the contexts of a document."""
        sums = np.zeros(len(self._docs))
        for batch, values in zip(self._contexts, by_context, strict=True):
            np.add.at(sums, [self._docs[int(doc)] for doc in batch.docs], values)
        return sums


def _by_row(losses: Tensor) -> npt.NDArray[np.float64]:
    return losses.cpu().double().sum(1).numpy()


def _first_layer(variant: Variant) -> int | None:
    """The layer of the first site that is looked at or changed; None for what comes before all layers."""
    members = [member for member in members_of(variant.dictionary) if variant.only in {None, *member.writes}]
    read = (site for member in members if not isinstance(member, Crosscoder) for site in member.inputs)
    written = (site for member in members for site in member.writes if variant.only in {None, site})
    return min((-1 if site.layer is None else site.layer for site in (*read, *written)), default=None)


def edits_of(model: Model, dictionary: Made, *, batch: "Contexts", only: Site | None = None) -> dict[Site, Edit]:
    """The edits of one forward that put a dictionary's reconstructions in place."""
    seen: dict[Site, Tensor] = {}
    if isinstance(dictionary, Crosscoder):
        captured = model.capture(batch.tokens, list(dictionary.inputs), mask=batch.real)
        seen = {site: x[batch.keep.to(x.device)].float() for site, x in captured.items()}
    return Splice(dictionary, batch.keep, seen=seen).edits(only=only)


class Splice:
    """One forward's: what was read, the codes made of it, and the edits that write them."""

    def __init__(self, dictionary: Made, keep: Bool[Tensor, "batch pos"], *, seen: dict[Site, Tensor] | None = None) -> None:
        """`seen` are kept rows that are known beforehand."""
        self._members = members_of(dictionary)
        self._keep = keep
        self._seen = {} if seen is None else seen
        self._known = frozenset(self._seen)
        self._codes: dict[Site, SparseCodes] = {}

    def edits(self, *, only: Site | None = None) -> dict[Site, Edit]:
        """At every site read or written; where nothing is to be written, the edit looks and leaves."""
        written = {site for member in self._members for site in member.writes if only in {None, site}}
        read = {site for member in self._members if written & set(member.writes) for site in member.inputs} - self._known
        return {site: self._edit(site, writes=site in written) for site in read | written}

    def _edit(self, site: Site, *, writes: bool) -> Edit:
        def edit(x: Tensor) -> Tensor | None:
            where = self._keep.to(x.device)
            if site not in self._known:
                self._seen[site] = x[where].float()
            if not writes:
                return None
            changed = x.clone()
            changed[where] = self._made(site).to(x.dtype)
            return changed

        return edit

    def _made(self, site: Site) -> Tensor:
        parts = [self._part(member, site) for member in self._members if site in member.writes]
        return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]

    def _part(self, member: Dictionary, site: Site) -> Tensor:
        rows = [self._seen[each] for each in member.inputs]
        x = rows[0] if len(rows) == 1 else torch.cat(rows, 1)
        if member.reads not in self._codes:
            self._codes[member.reads] = member.encode(x)
        return member.reconstruct(x, codes=self._codes[member.reads], write=site)


def contexts_of(shards: Shards | SideBySide | FromForward, corpus: Corpus, *, split: str, tokens: int) -> Iterator[Contexts]:
    """Contexts of the split in a fixed random order until they hold `tokens` tokens, in batches of similar length."""
    docs = corpus.doc_of(corpus.context_start[:-1])
    lengths = np.diff(corpus.context_start)
    code = corpus.splits[docs]
    usable = np.flatnonzero((code == SPLITS.index(split)) & (lengths > 1))
    order = usable[np.random.default_rng(0).permutation(len(usable))]
    enough = int(np.searchsorted(np.cumsum(lengths[order]), tokens)) + 1
    chosen = order[:enough]
    chosen = chosen[np.argsort(-lengths[chosen], kind="stable")]
    while len(chosen):
        count = max(1, _FORWARD_TOKENS // int(lengths[chosen[0]]))
        batch, chosen = chosen[:count], chosen[count:]
        shape = (len(batch), int(lengths[batch[0]]))
        ids, real, keep = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
        for row, context in enumerate(batch.tolist()):
            low, high = int(corpus.context_start[context]), int(corpus.context_start[context + 1])
            ids[row, : high - low] = torch.from_numpy(corpus.tokens[low:high].astype(np.int64))
            real[row, : high - low] = True
            keep[row, : high - low] = torch.from_numpy(shards.keep[low:high].copy())
        yield Contexts(tokens=ids, real=real, keep=keep, docs=torch.from_numpy(docs[batch]))
