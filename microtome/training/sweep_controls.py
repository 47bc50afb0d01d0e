"""The controls of a sweep that its runs do not carry with them: what needs no training, at the L0 it has, on the rows that measure the runs."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from microtome.dictionaries import SAE, Dictionary, MeanDictionary, Transcoder, kmeans, neurons, pca, random_like
from microtome.errors import ModelUnsupported
from microtome.models import Model
from microtome.progress import Progress, Throttled
from microtome.stats import Result
from microtome.training.export import Made
from microtome.training.measures import ByDocument, by_document
from microtome.training.quality import Figures
from microtome.training.source import StoredRows
from microtome.training.splice import contexts_of, spliced

FIT_ROWS = 16_384
"""Rows of the train split that k-means and PCA are fitted to."""
CENTROIDS = 1024
"""At most as many, however many features the dictionaries have: k-means takes time in proportion."""
_ROUNDS = 10
_TOKENS, _CE_TOKENS = 65_536, 4096


@dataclass(frozen=True, kw_only=True)
class SweepControl:
    """One control, measured like the runs."""

    name: str
    """`pca`, `k-means` or `neurons`."""
    note: str
    """Its size and what it was fitted to."""
    fvu: Result
    l0: Result
    ce_recovered: Result | None


def controls_of(
    dictionaries: Sequence[Made], source: StoredRows, *, ks: Sequence[int], model: Model | None = None, progress: Progress | None = None
) -> tuple[SweepControl, ...]:
    """PCA at every k and k-means for autoencoders of one site; for transcoders of an MLP its own neurons at every k. Sets have none here.

    `dictionaries` are the trained ones: the first gives the sites, the widest the number of centroids.
    """
    first = dictionaries[0]
    if not isinstance(first, SAE | Transcoder) or len(first.writes) > 1:
        return ()
    made = _of_autoencoder(first, source, ks=ks, widest=max(each.d_dict for each in dictionaries)) if isinstance(first, SAE) else []
    if isinstance(first, Transcoder) and model is not None:
        made = _of_mlp(first, model, ks=ks)
    if not made:
        return ()
    return _measured(made, first, source, model=model, report=Throttled(progress))


def _of_autoencoder(first: SAE, source: StoredRows, *, ks: Sequence[int], widest: int) -> list[tuple[str, str, Dictionary]]:
    site = first.reads
    rows = _train_rows(first, source, n=FIT_ROWS)
    centroids = min(CENTROIDS, widest, max(1, len(rows) // 4))
    fitted = f"fitted to {len(rows):,} rows"
    found: list[tuple[str, str, Dictionary]] = [
        ("pca", f"k {k}, {fitted}", pca(rows, site=site, k=min(k, first.d_in), pooling=first.pooling)) for k in ks if len(rows) > 1
    ]
    if centroids > 1:
        means = kmeans(rows, centroids, site=site, iterations=_ROUNDS, pooling=first.pooling)
        found.append(("k-means", f"{centroids:,} centroids, one a token, {fitted}", means))
    return found


def _of_mlp(first: Transcoder, model: Model, *, ks: Sequence[int]) -> list[tuple[str, str, Dictionary]]:
    reads, writes = first.reads, first.writes[0]
    if (reads.kind, writes.kind) != ("mlp_in", "mlp_out") or reads.layer is None or reads.layer != writes.layer:
        return []
    try:
        return [("neurons", f"the {k} that write most", neurons(model, reads.layer, k=k)) for k in ks]
    except ModelUnsupported:  # an MLP that is no sum over neurons has none to compare with
        return []


def _train_rows(dictionary: SAE | Transcoder, source: StoredRows, *, n: int) -> torch.Tensor:
    """Rows of the site written."""
    site = dictionary.writes[0]
    return source.held((site,), pooling=dictionary.pooling, n=n, split="train").rows[site].float()  # type: ignore[arg-type]  # one of its values


def _measured(
    made: list[tuple[str, str, Dictionary]], first: SAE | Transcoder, source: StoredRows, *, model: Model | None, report: Throttled
) -> tuple[SweepControl, ...]:
    sites = tuple(dict.fromkeys((first.reads, first.writes[0])))
    held = source.held(sites, pooling=first.pooling, n=_TOKENS, split="test")  # type: ignore[arg-type]  # one of its values
    device = torch.device("cpu") if model is None else model.device
    random, mean = random_like(first), MeanDictionary(_train_rows(first, source, n=FIT_ROWS).mean(0), site=first.writes[0], pooling=first.pooling)
    mean = MeanDictionary(mean.mean, site=first.writes[0], reads=first.reads, d_in=first.d_in, pooling=first.pooling)
    beside = [by_document(each, held, device=device) for each in (random, mean)]
    contexts = list(contexts_of(source.shards, source.corpus, split="test", tokens=_CE_TOKENS)) if model is not None else []
    found: list[SweepControl] = []
    for done, (name, note, control) in enumerate(made):
        report("measuring controls", done, len(made), note=name)
        measured: tuple[ByDocument, ...] = (by_document(control, held, device=device), *beside)
        figures = Figures(measured=measured, origin=source.shards.id)
        losses = None
        if model is not None and first.pooling == "token":
            losses = spliced(model, contexts, dictionary=control, random=random, mean=mean)
        recovered, _ = figures.recovered(losses)
        fvu, l0 = figures.fvu((first.writes[0],)), figures.l0((first.reads,))
        found.append(SweepControl(name=name, note=note, fvu=fvu, l0=l0, ce_recovered=recovered))
    report("measuring controls", len(made), len(made))
    return tuple(found)
