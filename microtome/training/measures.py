"""How good a dictionary is, counted per document, so that intervals can be drawn by resampling documents."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from microtome.activations import SPLITS, Corpus, HeldOut, Shards
from microtome.dictionaries import SAE, Dictionary, DictionarySet, MeanDictionary
from microtome.models import Edit, Model, Site
from microtome.shapes import Bool, Int, Tensor
from microtome.training.export import Made

_ROWS = 4096
_FORWARD_TOKENS = 1024
"""Tokens a forward: their logits over a vocabulary of 50,000 take 200 MB."""

Spliceable = SAE | MeanDictionary
"""Dictionaries that can be moved to the model's device."""


@torch.no_grad()
def fvu(dictionary: Made, rows: Tensor | Mapping[Site, Tensor]) -> float:
    """Fraction of variance unexplained: sum |x - x_hat|^2 / sum |x - mean(x)|^2, both over all rows and columns (mean over these rows).

    A ratio of sums, not a mean of per-token ratios; 0 is perfect, and reconstructing every row as the mean gives 1. Where several sites are written,
    the mean of theirs.
    """
    by_site = {dictionary.writes[0]: rows} if isinstance(rows, Tensor) else rows
    count = len(next(iter(by_site.values())))
    sums: dict[Site, float] = {}
    for first in range(0, count, _ROWS):
        part = {site: each[first : first + _ROWS].float() for site, each in by_site.items()}
        for site, made in reconstructions(dictionary, part).items():
            sums[site] = sums.get(site, 0.0) + float((made - part[site]).cpu().double().square().sum())
    return sum(unexplained / _variance(by_site[site]) for site, unexplained in sums.items()) / len(sums)


def reconstructions(dictionary: Made, rows: Mapping[Site, Tensor]) -> dict[Site, Tensor]:
    """What a dictionary of any kind makes of rows: each site written."""
    if isinstance(dictionary, DictionarySet):
        return dictionary.reconstruct(rows)
    x = read_rows(dictionary, rows)
    codes = dictionary.encode(x)
    return {site: dictionary.reconstruct(x, codes=codes, write=site) for site in dictionary.writes}


def read_rows(dictionary: Dictionary, rows: Mapping[Site, Tensor]) -> Tensor:
    """What one dictionary reads: the sites' rows side by side."""
    inputs = [rows[site].float() for site in dictionary.inputs]
    return inputs[0] if len(inputs) == 1 else torch.cat(inputs, 1)


def _variance(x: Tensor) -> float:
    whole = x.cpu().double()
    return float((whole - whole.mean(0)).square().sum())


@dataclass(frozen=True, kw_only=True)
class ByDocument:
    """Sums over each document's rows."""

    unexplained: npt.NDArray[np.float64]
    variance: npt.NDArray[np.float64]
    active: npt.NDArray[np.float64]
    """Active (token, feature) pairs."""
    rows: npt.NDArray[np.float64]
    fired: npt.NDArray[np.int64]
    """Rows on which each feature was active, [d_dict]; over all documents."""


@torch.no_grad()
def by_document(dictionary: Spliceable, held: HeldOut, *, device: torch.device) -> ByDocument:
    """The sums that FVU, L0 and density are ratios of. The dictionary works on `device`; sums are fp64 on the CPU."""
    there = dictionary.to(device)
    _, group = torch.unique(held.docs, return_inverse=True)
    groups = int(group.max()) + 1
    mean = held.x.mean(0, dtype=torch.float64)
    sums = torch.zeros(4, groups, dtype=torch.float64)
    fired = torch.zeros(dictionary.d_dict, dtype=torch.int64)
    for rows, where in zip(held.x.split(_ROWS), group.split(_ROWS), strict=True):
        x = rows.float().to(device)
        codes = there.encode(x)
        active = codes.values != 0
        fired += torch.bincount(codes.indices[active], minlength=dictionary.d_dict).cpu()
        unexplained = (there.decode(codes) - x).cpu().double().square().sum(1)
        variance = (rows.double() - mean).square().sum(1)
        count = torch.ones(len(rows), dtype=torch.float64)
        for total, value in zip(sums, (unexplained, variance, active.sum(1).cpu().double(), count), strict=True):
            total.index_add_(0, where, value)
    of_error, of_rows, active_pairs, counts = (total.numpy() for total in sums)
    return ByDocument(unexplained=of_error, variance=of_rows, active=active_pairs, rows=counts, fired=fired.numpy())


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
class _Contexts:
    """Some contexts, padded on the right."""

    tokens: Int[Tensor, "batch pos"]
    real: Bool[Tensor, "batch pos"]
    keep: Bool[Tensor, "batch pos"]
    """Tokens that are replaced; the others keep the model's own activation."""
    docs: Int[Tensor, "batch"]


def spliced(
    model: Model, shards: Shards, *, corpus: Corpus, site: Site, dictionaries: tuple[Spliceable, Spliceable, Spliceable], split: str, tokens: int
) -> Spliced:
    """Run held-out contexts with the site's activations as they are, and replaced by each of (dictionary, random, mean).

    Positions that the shards do not keep (specials, template, attention sinks) pass unchanged in every variant.
    """
    batches = list(_contexts(shards, corpus, split=split, tokens=tokens))
    there = [dictionary.to(model.device) for dictionary in dictionaries]
    known = {doc: number for number, doc in enumerate(sorted({int(doc) for batch in batches for doc in batch.docs}))}
    sums, predicted = np.zeros((4, len(known))), np.zeros(len(known))
    for batch in batches:
        places = [known[int(doc)] for doc in batch.docs]
        edits: list[dict[Site, Edit] | None] = [None, *({site: replaced(dictionary, batch.keep)} for dictionary in there)]
        for variant, edit in enumerate(edits):
            losses = model.loss(batch.tokens, mask=batch.real, edit=edit).cpu().double().sum(1)
            np.add.at(sums[variant], places, losses.numpy())
        np.add.at(predicted, places, (batch.real.sum(1) - 1).numpy())
    return Spliced(original=sums[0], dictionary=sums[1], random=sums[2], mean=sums[3], tokens_by_document=predicted)


def replaced(dictionary: Dictionary, keep: Bool[Tensor, "batch pos"]) -> Edit:
    """The edit that puts the reconstruction in place of the activation where `keep` is true."""

    def edit(x: Tensor) -> Tensor:
        where = keep.to(x.device)
        changed = x.clone()
        changed[where] = dictionary.reconstruct(x[where].float()).to(x.dtype)
        return changed

    return edit


def _contexts(shards: Shards, corpus: Corpus, *, split: str, tokens: int) -> Iterator[_Contexts]:
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
        yield _Contexts(tokens=ids, real=real, keep=keep, docs=torch.from_numpy(docs[batch]))
