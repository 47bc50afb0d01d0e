"""What the model loses when the span of its dense features is taken out, beside other subspaces of the same dimension.

With Q an orthonormal basis of the span of what the dense features write at a site, x <- x − Q Qᵀ x there, at the tokens that the index keeps (a
context's first token holds an attention sink that no dictionary here is trained on). Sun et al. 2025 train a new dictionary on x − Q Qᵀ x and find it
nearly free of dense features; what is measured here is what the model itself makes of that subspace. Beside it, at the same sites:

- `other features`: the span of features that fire but are not dense, drawn until it has the dimension;
- `random directions`: random subspaces;
- `principal components`: the leading ones of what the sites hold on the same tokens, the subspace that holds the most variance there is to take.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from microtome.config import canonical_json, from_dict
from microtome.errors import ConfigError, QueryInvalid
from microtome.features.arrays import Array
from microtome.features.index import FeatureIndex
from microtome.features.odd.records import Ablation, Removed
from microtome.features.odd.subspaces import basis, dense_features
from microtome.features.store import Store
from microtome.features.tables import DENSE
from microtome.models import Model, Site
from microtome.progress import Progress, Throttled
from microtome.shapes import Tensor
from microtome.stats import bootstrap_ratio

KIND = "dense-ablation"
WHOLE = -1
"""In place of a feature: what the catalogue keeps of a whole index."""

Spans = Mapping[Site, Tensor]
"""An orthonormal basis by site, float32 [width, dimension]."""


@dataclass(frozen=True, kw_only=True)
class AblationConfig:
    """How much is run; another setting is another record."""

    density: float = DENSE
    """A feature of higher density is dense."""
    contexts: int = 24
    """Contexts of the corpus, evenly spaced among all …"""
    length: int = 64
    """… and at most so many tokens of each."""
    draws: int = 2
    """Of other features, and of random subspaces."""
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.contexts, self.length - 1, self.draws) < 1 or not 0 < self.density < 1:
            got = f"density {self.density}, contexts {self.contexts}, length {self.length}, draws {self.draws}"
            wanted = "0 < density < 1, at least 1 context of 2 tokens, at least 1 draw"
            raise ConfigError("AblationConfig asks for nothing.", got=got, wanted=wanted, do="Correct it.")


class Text(NamedTuple):
    """A context and which of its tokens the index keeps."""

    tokens: Tensor
    keep: Tensor


class Moments(NamedTuple):
    """Of what a site holds on the kept tokens, float64."""

    mean: Tensor
    second: Tensor
    """E[x xᵀ]."""


def dense_ablation(
    index: FeatureIndex,
    model: Model | None = None,
    *,
    config: AblationConfig = AblationConfig(),
    progress: Progress | None = None,
) -> Ablation | None:
    """What is lost without the span of the dense features, as the catalogue has it; measured now where a `model` is given and nothing is stored.

    None where nothing is stored and there is no model. Raises `QueryInvalid` (no feature is dense), `ShapeMismatch` (another model), `ModelTapped`,
    `WorkspaceReadOnly`.
    """
    store, key = index.store, canonical_json(config)
    found = store.catalogue.record(store.id, WHOLE, kind=KIND, config=key)
    if found is not None:
        return from_dict(Ablation, found)
    if model is None:
        return None
    store.check_model(model)
    model.check_untapped("measuring dense features")
    measured = _measure(store, model, config=config, tell=Throttled(progress))
    store.catalogue.add_record(store.id, WHOLE, kind=KIND, config=key, content=measured)
    return measured


def _measure(store: Store, model: Model, *, config: AblationConfig, tell: Throttled) -> Ablation:
    dense = dense_features(store, density=config.density)
    if not len(dense):
        do = "There is nothing to take out; AblationConfig(density=) sets another bar."
        raise QueryInvalid(f"no feature of {store.name} is dense.", got=f"none above {config.density:g}", wanted="at least one", do=do)
    span = _span(store, dense.tolist())
    texts = _texts(store, config)
    moments = _moments(model, texts, tuple(span))
    variants = [("dense features", span), *_controls(store, span, moments, dense=dense, config=config)]
    sums = np.zeros((2, len(variants), len(texts)))
    counts, clean = np.zeros(len(texts)), 0.0
    for number, text in enumerate(texts):
        kl, loss, before = _run(model, text, [spans for _, spans in variants])
        sums[0, :, number], sums[1, :, number] = kl, loss
        counts[number], clean = float(text.keep[:-1].sum()), clean + before
        tell("ablate subspaces", number + 1, len(texts), unit="contexts")
    names = list(dict.fromkeys(name for name, _ in variants))
    return Ablation(
        index=store.name,
        model=model.ref + (f" ({model.quantised})" if model.quantised else ""),
        sites=tuple(map(str, span)),
        n_dense=len(dense),
        dimensions={str(site): q.shape[1] for site, q in span.items()},
        widths={str(site): q.shape[0] for site, q in span.items()},
        contexts=len(texts),
        tokens=int(counts.sum()),
        loss=clean / counts.sum(),
        removed=tuple(_removed(name, variants, sums=sums, counts=counts, moments=moments, seed=config.seed) for name in names),
    )


def _span(store: Store, features: Sequence[int]) -> dict[Site, Tensor]:
    """The basis of what some features write, by site."""
    written: dict[Site, list[Tensor]] = {}
    for feature in features:
        for site, vector in store.wiring.writes(feature).items():
            written.setdefault(site, []).append(vector)
    return {site: basis(torch.stack(vectors)).float() for site, vectors in sorted(written.items())}


def _texts(store: Store, config: AblationConfig) -> list[Text]:
    """Evenly spaced contexts in which at least one kept token has a token behind it."""
    corpus, keep = store.corpus, store.postings.keep()
    found: list[Text] = []
    for start, end in zip(corpus.context_start[:-1].tolist(), corpus.context_start[1:].tolist(), strict=True):
        stop = min(end, start + config.length)
        if keep[start : stop - 1].any():
            found.append(Text(torch.from_numpy(np.asarray(corpus.tokens[start:stop]).astype(np.int64)), torch.from_numpy(keep[start:stop].copy())))
    return [found[at] for at in np.unique(np.linspace(0, len(found) - 1, config.contexts).astype(np.int64))]


def _moments(model: Model, texts: Sequence[Text], sites: tuple[Site, ...]) -> dict[Site, Moments]:
    rows: dict[Site, list[Tensor]] = {site: [] for site in sites}
    for text in texts:
        for site, x in model.capture(text.tokens[None], sites).items():
            rows[site].append(x[0].cpu()[text.keep].double())
    joined = {site: torch.cat(parts) for site, parts in rows.items()}
    return {site: Moments(x.mean(0), x.T @ x / len(x)) for site, x in joined.items()}


def _controls(store: Store, span: Spans, moments: Mapping[Site, Moments], *, dense: Array, config: AblationConfig) -> list[tuple[str, Spans]]:
    """Subspaces of the same dimension at every site."""
    draw, gauss = np.random.default_rng(config.seed), torch.Generator().manual_seed(config.seed)
    made: list[tuple[str, Spans]] = []
    for _ in range(config.draws):
        others = _others(store, span, dense=dense, density=config.density, draw=draw)
        if others is not None:
            made.append(("other features", others))
        random = {site: torch.linalg.qr(torch.randn(*q.shape, generator=gauss, dtype=torch.float64)).Q.float() for site, q in span.items()}
        made.append(("random directions", random))
    made.sort(key=lambda each: each[0])
    leading: dict[Site, Tensor] = {}
    for site, q in span.items():
        mean, second = moments[site]
        leading[site] = torch.linalg.eigh(second - torch.outer(mean, mean)).eigenvectors[:, -q.shape[1] :].float()
    return [*made, ("principal components", leading)]


def _others(store: Store, span: Spans, *, dense: Array, density: float, draw: np.random.Generator) -> Spans | None:
    """The span of features that fire but are not dense, in an order drawn at random, until it has the dimensions; None where they do not suffice.

    They are drawn from the dictionaries of the dense features alone, so that they write the same sites.
    """
    numbers = store.rows.numbers
    members = np.searchsorted(store.numbering.starts, np.arange(store.n_features), side="right") - 1
    own = np.isin(members, members[dense])
    pool = draw.permutation(np.flatnonzero((numbers["count"] > 0) & (numbers["density"] <= density) & own))
    vectors: dict[Site, list[Tensor]] = {site: [] for site in span}
    for feature in pool.tolist():
        for site, vector in store.wiring.writes(feature).items():
            if site in span and len(vectors[site]) < span[site].shape[1] and bool(vector.any()):
                vectors[site].append(vector)
        if all(len(vectors[site]) == q.shape[1] for site, q in span.items()):
            break
    found = {site: basis(torch.stack(some)).float() if some else span[site][:, :0] for site, some in vectors.items()}
    return found if all(found[site].shape == q.shape for site, q in span.items()) else None


def _run(model: Model, text: Text, variants: Sequence[Spans]) -> tuple[Array, Array, float]:
    """Of one context, sums over the kept tokens that another follows: KL and rise of the loss by variant, and the loss before."""
    edits = {site: _Remover([spans[site] for spans in variants], text.keep) for site in variants[0]}
    logits = model.logits(text.tokens.expand(len(variants) + 1, -1), edit=edits)[:, :-1]
    counted, following = text.keep[:-1], text.tokens[1:][text.keep[:-1]]
    plain = logits[0].cpu()[counted].double().log_softmax(-1)
    before = plain.gather(1, following[:, None]).sum()
    kl, loss = np.zeros(len(variants)), np.zeros(len(variants))
    for number in range(len(variants)):
        changed = logits[number + 1].cpu()[counted].double().log_softmax(-1)
        kl[number] = max(0.0, float((changed.exp() * (changed - plain)).sum()))
        loss[number] = float(before - changed.gather(1, following[:, None]).sum())
    return kl, loss, -float(before)


class _Remover:
    """An edit that leaves the first row of a batch as it is and takes a subspace out of each other one, at some tokens."""

    def __init__(self, spans: Sequence[Tensor], keep: Tensor) -> None:
        self._spans, self._keep = spans, keep

    def __call__(self, x: Tensor) -> Tensor:
        out = x.clone()
        keep = self._keep.to(x.device)
        for row, span in enumerate(self._spans, start=1):
            q = span.to(x)
            out[row, keep] = x[row, keep] - (x[row, keep] @ q) @ q.T
        return out


def _removed(name: str, variants: Sequence[tuple[str, Spans]], *, sums: Array, counts: Array, moments: Mapping[Site, Moments], seed: int) -> Removed:
    """The variants of one name together."""
    at = [number for number, (each, _) in enumerate(variants) if each == name]
    kl, loss = sums[0, at].mean(0), sums[1, at].mean(0)
    around_kl, around_loss = bootstrap_ratio(kl, counts, seed=seed), bootstrap_ratio(loss, counts, seed=seed)
    shares = np.mean([_shares(variants[number][1], moments) for number in at], 0)
    return Removed(
        name=name,
        draws=len(at),
        kl=float(kl.sum() / counts.sum()),
        kl_low=around_kl.low,
        kl_high=around_kl.high,
        loss=float(loss.sum() / counts.sum()),
        loss_low=around_loss.low,
        loss_high=around_loss.high,
        variance=float(shares[0]),
        norm=float(shares[1]),
    )


def _shares(spans: Spans, moments: Mapping[Site, Moments]) -> tuple[float, float]:
    """Shares of variance and of squared length in the subspaces, mean over the sites."""
    variance: list[float] = []
    norm: list[float] = []
    for site, span in spans.items():
        q, (mean, second) = span.double(), moments[site]
        covariance = second - torch.outer(mean, mean)
        variance.append(float(((q.T @ covariance) * q.T).sum() / covariance.trace().clamp_min(1e-30)))
        norm.append(float(((q.T @ second) * q.T).sum() / second.trace().clamp_min(1e-30)))
    return float(np.mean(variance)), float(np.mean(norm))
