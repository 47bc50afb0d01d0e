"""Splicing: a model runs with dictionaries in place of its activations, at one site or at all that they write."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import torch

from microtome.activations import SPLITS, Corpus, Shards
from microtome.devices import forward_workers
from microtome.dictionaries import Crosscoder, Dictionary, SparseCodes
from microtome.models import Edit, Model, Site
from microtome.shapes import Bool, Int, Tensor
from microtome.training.export import Made
from microtome.training.from_forward import FromForward
from microtome.training.measures import members_of

_FORWARD_TOKENS = 512
"""Tokens a forward: their logits over a vocabulary of 50,000 take 100 MB."""
EditsOf = Callable[["Contexts"], Mapping[Site, Edit] | None]


@dataclass(frozen=True, kw_only=True)
class Spliced:
    """Summed next-token cross-entropy of each document, in nats, by what stood at the site."""

    original: npt.NDArray[np.float64]
    dictionary: npt.NDArray[np.float64]
    random: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    tokens_by_document: npt.NDArray[np.float64]
    """Predicted tokens."""

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


def spliced(  # four things that are compared
    model: Model,
    contexts: "list[Contexts]",
    *,
    dictionary: Made,
    random: Made,
    mean: Made,
    only: Site | None = None,
    original: npt.NDArray[np.float64] | None = None,
) -> Spliced:
    """Run contexts with the activations as they are, and replaced by each of three dictionaries, at all sites that they write or at `only` one.

    Positions that the shards do not keep (specials, template, attention sinks) pass unchanged in every variant. Where several sites are replaced,
    later dictionaries read what the model goes on with. A crosscoder's codes come from the unedited forward: it reads sites behind those it writes.
    `original`, where it is known of the same contexts, is not run again. On a CPU every core runs forwards of its own.
    """
    there = [each.to(model.device) for each in (dictionary, random, mean)]
    known = {doc: number for number, doc in enumerate(sorted({int(doc) for batch in contexts for doc in batch.docs}))}
    losses: dict[tuple[int, int], npt.NDArray[np.float64]] = {}

    def run(task: npt.NDArray[np.int64]) -> int:
        number, variant = int(task[0]), int(task[1])
        batch = contexts[number]
        edit = None if variant == 0 else edits_of(model, there[variant - 1], batch=batch, only=only)
        losses[number, variant] = model.loss(batch.tokens, mask=batch.real, edit=edit).cpu().double().sum(1).numpy()
        return 1

    first = 0 if original is None else 1
    with forward_workers(model.device) as run_all:
        for _ in run_all(run, (np.array(task) for task in product(range(len(contexts)), range(first, 4)))):
            pass
    sums, predicted = np.zeros((4, len(known))), np.zeros(len(known))
    for number, batch in enumerate(contexts):
        places = [known[int(doc)] for doc in batch.docs]
        for variant in range(first, 4):
            np.add.at(sums[variant], places, losses[number, variant])
        np.add.at(predicted, places, (batch.real.sum(1) - 1).numpy())
    unedited = sums[0] if original is None else original
    return Spliced(original=unedited, dictionary=sums[1], random=sums[2], mean=sums[3], tokens_by_document=predicted)


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
        read = {site for member in self._members for site in member.inputs} - self._known
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


def contexts_of(shards: Shards | FromForward, corpus: Corpus, *, split: str, tokens: int) -> Iterator[Contexts]:
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
