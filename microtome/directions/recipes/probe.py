"""Probes: a direction that tells two sets of passages apart, with what a shuffled and a bag-of-words probe would tell."""

import re
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Literal, TypeAlias

import numpy as np
import torch

from microtome.conversation import Conversation
from microtome.directions.direction import Direction
from microtome.directions.reading import Passage, Reader
from microtome.directions.recipes.contrast import mean_difference
from microtome.directions.recipes.logistic import Fitted, fit_logistic
from microtome.directions.recipes.recipe import Made, made_by, need, recipe, shuffled
from microtome.errors import ConfigError, NotEnoughTokens
from microtome.shapes import Bool, Float, Tensor
from microtome.stats import Result

ProbeKind: TypeAlias = Literal["l2", "l1", "mean"]
Fit: TypeAlias = Callable[[Tensor, Tensor], Fitted]
_BOOTSTRAP = 500


@recipe("probe")
def probe(
    reader: Reader,
    *,
    positive: Sequence[Passage],
    negative: Sequence[Passage],
    name: str = "probe",
    kind: ProbeKind = "l2",
    strength: float = 0.1,
    groups: Sequence[str] | None = None,
    n_null: int = 20,
) -> Made:
    """A linear probe for the positive passages. σ(⟨x, v⟩ + bias) is its probability; `bias` is in the provenance, ready for `Condition(bias=…)`.

    `l2` and `l1` are logistic regressions with penalty `strength`, `mean` the difference of means with the bias halfway. The AUC is
    cross-validated (`cross_validated`) and stands beside the same probe on shuffled classes (`n_null` times) and a bag-of-words probe on the same
    folds: what a probe reads that counting words does not give is the difference. `groups` names, for the positive and then the negative
    passages, what must not be split between training and test (the template, the topic).
    """
    if kind not in ("l2", "l1", "mean"):
        raise ConfigError(f'there is no probe "{kind}".', got=kind, wanted="l2, l1, mean", do="Choose one.")
    need(positive, at_least=4, what="positive passages")
    need(negative, at_least=4, what="negative passages")
    passages = [*positive, *negative]
    rows = reader.rows(passages)
    labels = torch.arange(len(passages)) < len(positive)
    fit = _fitter(kind, strength)
    fitted = fit(rows, labels)
    result = scored(rows, labels, passages=passages, fit=fit, groups=groups, n_null=n_null)
    provenance = made_by(reader, "probe", kind=kind, strength=strength, bias=fitted.bias, positive=len(positive), negative=len(negative))
    direction = Direction(
        name=name,
        site=reader.site,
        vector=fitted.weights,
        unit="log odds per unit of activation" if kind != "mean" else "raw",
        sign=f"towards {name}",
        reference="the negative passages",
        model=reader.model.fingerprint,
        provenance=provenance,
    )
    above = result.value - max(result.baselines["bag_of_words"], result.baselines["shuffled"])
    notes = ["A probe that reads a property does not show that the model uses it."]
    if above < 0.02:
        notes.append(f"It tells hardly more than a baseline does (AUC {above:+.3f}): this is no evidence that the model represents {name}.")
    return Made(direction=direction, results=(result,), notes=tuple(notes))


def _fitter(kind: ProbeKind, strength: float) -> Fit:
    if kind == "mean":
        return _by_means
    return lambda rows, labels: fit_logistic(rows, labels, penalty=kind, strength=strength)


def _by_means(rows: Tensor, labels: Tensor) -> Fitted:
    weights = mean_difference(rows[labels], rows[~labels])
    middle = (rows[labels].double().mean(0) + rows[~labels].double().mean(0)) / 2
    return Fitted(weights, -float(middle @ weights.double()))


def scored(
    rows: Float[Tensor, "n width"],
    labels: Bool[Tensor, "n"],
    *,
    passages: Sequence[Passage],
    fit: Fit,
    groups: Sequence[str] | None = None,
    n_null: int = 20,
    seed: int = 0,
) -> Result:
    """Cross-validated AUC with a bootstrap interval; baselines `bag_of_words`, `shuffled` (mean),
    `shuffled_max` and `p` (share of shuffles as good)."""
    if groups is not None and len(groups) != len(labels):
        raise ConfigError("there is not one group a passage.", got=len(groups), wanted=len(labels), do="Name the group of each passage.")
    folds = folds_of(labels, groups=groups, seed=seed)
    scores = cross_validated(rows, labels, folds=folds, fit=fit)
    value = auc(scores, labels, folds=folds)
    nulls = [_null(rows, labels, folds=folds, fit=fit, seed=seed + 1 + i) for i in range(n_null)]
    words = bag_of_words([text_of(passage) for passage in passages])
    counted = cross_validated(words, labels, folds=folds, fit=lambda x, y: fit_logistic(x, y, strength=0.1))
    low, high = _interval(scores, labels, folds=folds, seed=seed)
    baselines = {"bag_of_words": auc(counted, labels, folds=folds)}
    if nulls:
        baselines |= {"shuffled": fmean(nulls), "shuffled_max": max(nulls), "p": (1 + sum(null >= value for null in nulls)) / (1 + len(nulls))}
    return Result(
        name="auc",
        value=value,
        low=low,
        high=high,
        n=len(labels),
        definition=f"area under the ROC curve on held-out passages, {int(folds.max()) + 1} folds, pairs within a fold; bootstrap over passages",
        baselines={"shuffled": 0.5, **baselines},
    )


def folds_of(labels: Bool[Tensor, "n"], *, groups: Sequence[str] | None = None, n_folds: int = 5, seed: int = 0) -> Tensor:
    """The fold of each row: classes spread evenly, a group never split. Each fold holds both classes, or `NotEnoughTokens` is raised."""
    n_folds = min(n_folds, int(labels.sum()), int((~labels).sum()))
    folds = torch.full((len(labels),), -1)
    if groups is None:
        for side in (labels, ~labels):
            members = side.nonzero()[:, 0]
            order = members[shuffled(len(members), seed=seed)]
            folds[order] = torch.arange(len(members)) % n_folds
        return folds
    names = sorted(set(groups))
    n_folds = min(n_folds, len(names))
    numbers = {names[at]: i % n_folds for i, at in enumerate(shuffled(len(names), seed=seed))} if n_folds else {}
    folds = torch.tensor([numbers[group] for group in groups])
    for fold in range(n_folds):
        inside = labels[folds == fold]
        if n_folds < 2 or bool(inside.all()) or not bool(inside.any()):
            do = "Use groups that hold passages of both classes, or none."
            raise NotEnoughTokens("the groups do not give folds of both classes.", got=f"{len(names)} groups", wanted="both classes in each", do=do)
    return folds


def cross_validated(rows: Float[Tensor, "n width"], labels: Bool[Tensor, "n"], *, folds: Tensor, fit: Fit) -> Float[Tensor, "n"]:
    """The score of each row by a probe that was fitted without its fold."""
    scores = torch.zeros(len(labels), dtype=torch.float64)
    for fold in folds.unique().tolist():
        out = folds == fold
        scores[out] = fit(rows[~out], labels[~out]).scores(rows[out])
    return scores


def auc(scores: Float[Tensor, "n"], labels: Bool[Tensor, "n"], *, folds: Tensor | None = None) -> float:
    """Share of (positive, negative) pairs whose positive has the higher score, ties a half; with `folds` only pairs of one fold."""
    high, low = scores[labels], scores[~labels]
    pairs = torch.ones(len(high), len(low), dtype=torch.bool) if folds is None else folds[labels][:, None] == folds[~labels][None]
    gap = high[:, None] - low[None]
    return float(((gap > 0).double() + 0.5 * (gap == 0).double())[pairs].mean())


def bag_of_words(texts: Sequence[str]) -> Float[Tensor, "n words"]:
    """log(1 + count) of each lower-case word that at least two of the texts have."""
    counts = [re.findall(r"\w+", text.lower()) for text in texts]
    shared = sorted({word for word in set().union(*counts) if sum(word in each for each in counts) > 1})
    column = {word: i for i, word in enumerate(shared)}
    table = torch.zeros(len(texts), max(1, len(shared)))
    for row, words in enumerate(counts):
        for word in words:
            if word in column:
                table[row, column[word]] += 1
    return table.log1p()


def _null(rows: Tensor, labels: Tensor, *, folds: Tensor, fit: Fit, seed: int) -> float:
    """Classes mixed within each fold, so that every fold keeps both."""
    mixed = labels.clone()
    for fold in folds.unique().tolist():
        members = (folds == fold).nonzero()[:, 0]
        mixed[members] = labels[members[shuffled(len(members), seed=seed)]]
    return auc(cross_validated(rows, mixed, folds=folds, fit=fit), mixed, folds=folds)


def _interval(scores: Tensor, labels: Tensor, *, folds: Tensor, seed: int) -> tuple[float, float]:
    random = np.random.default_rng(seed)
    strata = [((folds == fold) & (labels == side)).nonzero()[:, 0].numpy() for fold in folds.unique().tolist() for side in (True, False)]
    draws: list[float] = []
    for _ in range(_BOOTSTRAP):
        picks = torch.from_numpy(np.concatenate([random.choice(stratum, len(stratum)) for stratum in strata]))
        draws.append(auc(scores[picks], labels[picks], folds=folds[picks]))
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def text_of(passage: Passage) -> str:
    """The words of a passage, all turns."""
    return " ".join(turn.content for turn in passage.turns) if isinstance(passage, Conversation) else passage
