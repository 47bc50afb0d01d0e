"""The quality report of a dictionary: figures on held-out documents, each beside a random dictionary and the mean."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import torch

from microtome.activations import Corpus, Pooled, Shards
from microtome.dictionaries import DictionarySet, MeanDictionary, random_like
from microtome.errors import ShapeMismatch
from microtome.models import Model, Site
from microtome.progress import Progress, Throttled
from microtome.stats import Interval, Result, bootstrap_ratio, wilson
from microtome.training.config import Pooling
from microtome.training.export import Made
from microtome.training.from_forward import FromForward
from microtome.training.measures import ByDocument, by_document, members_of
from microtome.training.records import ControlDensity, Quality, SiteQuality
from microtome.training.source import StoredRows
from microtome.training.splice import Spliced, contexts_of, spliced

CONTROLS: tuple[str, ...] = ("random", "mean")
DENSITY_EDGES = tuple(edge / 2 for edge in range(-12, 1))
"""log10 of the share of tokens, from one in a million to all, in halves of a decade."""


def measure_quality(  # noqa: PLR0913  # what, on what, and how much of it
    dictionary: Made,
    shards: Shards | FromForward,
    *,
    corpus: Corpus,
    model: Model | None = None,
    turns: Pooled | None = None,
    split: Literal["train", "dev", "test"] = "test",
    tokens: int = 65_536,
    ce_tokens: int = 4096,
    progress: Progress | None = None,
) -> Quality:
    """Measure `dictionary` on at most `tokens` kept tokens of a split, and with `model` on `ce_tokens` tokens of its contexts.

    - **FVU** = sum |x - x_hat|^2 / sum |x - mean|^2 over all rows and columns, mean over these rows.
    - **L0** = active features a token. **Dead share** = features that were active on none of these tokens.
    - **Cross-entropy recovered** = (CE(mean) - CE(dictionary)) / (CE(mean) - CE(original)), CE of the next token with the activations of the sites
      written replaced at every kept token (for transcoders, the MLP's output): 1 is the model itself, 0 is what replacing each activation by the
      mean leaves. Tokens that are not kept (specials, template, attention sinks) pass unchanged in all four. Not defined (None, with the reason in
      `ce_undefined`) where the interval of CE(mean) - CE(original) reaches 0. Each of several sites alone is measured on a quarter of the tokens.

    Intervals are 95 %, by resampling documents (the dead share's is Wilson's over features). The controls are a random dictionary of the same
    size and the mean of the train split. A dictionary of pooled rows is measured on those of `turns`, without cross-entropy. Raises `ShapeMismatch`
    (also for another model than the shards'), `SiteNotFound`, `NotEnoughTokens`.
    """
    check_model(model, shards)
    source = shards if isinstance(shards, FromForward) else StoredRows(shards=shards, corpus=corpus, turns=turns)
    pooling = _pooling(dictionary)
    report = Throttled(progress)
    held = source.held(_sites(dictionary, shards), pooling=pooling, n=tokens, split=split)
    device = torch.device("cpu") if model is None else model.device
    three = (dictionary, random_like(dictionary), _mean_of(dictionary, source, pooling=pooling))
    measured: list[ByDocument] = []
    for done, each in enumerate(three):
        report("measuring quality", done, 4, note="reconstruction")
        measured.append(by_document(each, held, device=device))
    report("measuring quality", 3, 4, note="cross-entropy")
    losses: dict[Site | None, Spliced] = {}
    if model is not None and pooling == "token":
        losses = _losses(model, three, shards=shards, corpus=corpus, split=split, tokens=ce_tokens)
    report("measuring quality", 4, 4)
    return quality_of(dictionary, measured, losses, shards=shards, split=split)


def _sites(dictionary: Made, source: Shards | FromForward) -> tuple[Site, ...]:
    """All sites read or written; `ShapeMismatch` where their widths are not the dictionary's."""
    for member in members_of(dictionary):
        widths = sum(source.width(source.site(site)) for site in member.inputs)
        if widths != member.d_in:
            do = "Open the shards that the dictionary was trained on."
            raise ShapeMismatch("the dictionary does not fit the shards.", got=member.d_in, wanted=widths, do=do)
    return tuple(dict.fromkeys(source.site(site) for member in members_of(dictionary) for site in (*member.inputs, *member.writes)))


def _pooling(dictionary: Made) -> Pooling:
    """What the dictionary's rows are."""
    return cast(Pooling, members_of(dictionary)[0].pooling)


def _mean_of(dictionary: Made, source: StoredRows | FromForward, *, pooling: Pooling) -> Made:
    """The control that reconstructs every site written as its mean over the train split."""
    writes = tuple(dict.fromkeys(site for member in members_of(dictionary) for site in member.writes))
    rows = source.held(writes, pooling=pooling, n=16_384, split="train").rows
    means = tuple(MeanDictionary(rows[site].float().mean(0), site=site, pooling=pooling) for site in writes)
    return means[0] if len(means) == 1 else DictionarySet(means)


def _losses(
    model: Model, three: tuple[Made, Made, Made], *, shards: Shards | FromForward, corpus: Corpus, split: str, tokens: int
) -> dict[Site | None, Spliced]:
    """Cross-entropy with all sites replaced (None) and, where there are several, with each alone."""
    dictionary, random, mean = three
    contexts = list(contexts_of(shards, corpus, split=split, tokens=tokens))
    losses: dict[Site | None, Spliced] = {None: spliced(model, contexts, dictionary=dictionary, random=random, mean=mean)}
    writes = tuple(dict.fromkeys(site for member in members_of(dictionary) for site in member.writes))
    if len(writes) > 1:
        fewer = list(contexts_of(shards, corpus, split=split, tokens=max(1, tokens // 4)))
        original = None
        for site in writes:
            losses[site] = spliced(model, fewer, dictionary=dictionary, random=random, mean=mean, only=site, original=original)
            original = losses[site].original
    return losses


def check_model(model: Model | None, shards: Shards | FromForward) -> None:
    """Raise `ShapeMismatch` if the shards are of another model: its losses would say nothing about a dictionary trained on them."""
    if model is not None and model.fingerprint != shards.model_fingerprint:
        do = f"Load the model that the shards were harvested from: {shards.model_ref}, in the same dtype."
        raise ShapeMismatch("the shards are of another model.", got=model.fingerprint, wanted=shards.model_fingerprint, do=do)


def quality_of(
    dictionary: Made, measured: list[ByDocument], losses: Mapping[Site | None, Spliced], *, shards: Shards | FromForward, split: str
) -> Quality:
    """The report of what was measured: the dictionary, the random control and the mean, in this order."""
    mine = measured[0]
    figures = Figures(measured=tuple(measured), origin=shards.id)
    rows = int(mine.rows.sum())
    counts, never = density(_all_fired(mine), rows)
    writes = tuple(mine.sites)
    recovered, undefined = figures.recovered(losses.get(None))
    return Quality(
        fvu=figures.fvu(writes),
        l0=figures.l0(tuple(mine.members)),
        dead_share=figures.dead_share(tuple(mine.members)),
        ce_recovered=recovered,
        ce_undefined=undefined,
        density_edges=DENSITY_EDGES,
        density_counts=counts,
        never_active=never,
        control_densities=tuple(_control(name, each) for name, each in zip(CONTROLS, measured[1:], strict=True)),
        tokens=rows,
        documents=len(mine.rows),
        split=split,
        model=shards.model_ref if shards.quantised is None else f"{shards.model_ref} ({shards.quantised})",
        by_site=tuple(_of_site(site, dictionary, figures, losses.get(site)) for site in writes) if len(writes) > 1 else (),
    )


def _of_site(site: Site, dictionary: Made, figures: "Figures", losses: Spliced | None) -> SiteQuality:  # noqa: PLR0917  # one row of the report
    own = next((member.reads for member in members_of(dictionary) if member.writes[0] == site), members_of(dictionary)[0].reads)
    recovered, undefined = figures.recovered(losses)
    return SiteQuality(
        site=site,
        fvu=figures.fvu((site,)),
        l0=figures.l0((own,)),
        dead_share=figures.dead_share((own,)),
        ce_recovered=recovered,
        ce_undefined=undefined,
    )


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Results from sums: of the dictionary, the random control and the mean."""

    measured: tuple[ByDocument, ...]
    origin: str

    def fvu(self, sites: tuple[Site, ...]) -> Result:
        """The mean over sites of their fractions of variance unexplained."""
        parts = [[_shares(each, site) for site in sites] for each in self.measured]
        pairs = [(np.sum([unexplained for unexplained, _ in part], 0), np.sum([variance for _, variance in part], 0)) for part in parts]
        over, under = pairs[0]
        return self._ratio_result("FVU", over, under, baselines=[_ratio(*pair) for pair in pairs[1:]])

    def l0(self, members: tuple[Site, ...]) -> Result:
        """The mean over members of their active features a row."""
        active = [_mean_active(each, members if number < 2 else tuple(each.members)) for number, each in enumerate(self.measured)]
        return self._ratio_result("L0", active[0], self.measured[0].rows, baselines=[_ratio(each, self.measured[0].rows) for each in active[1:]])

    def dead_share(self, members: tuple[Site, ...]) -> Result:
        """Over all features of the members."""
        silent = [
            np.concatenate([each.members[site].fired for site in (members if number < 2 else tuple(each.members))]) == 0
            for number, each in enumerate(self.measured)
        ]
        dead, of = int(silent[0].sum()), len(silent[0])
        baselines = {name: float(each.mean()) for name, each in zip(CONTROLS, silent[1:], strict=True)}
        return _result("dead share", dead / of, wilson(dead, of), n=of, origin=self.origin, baselines=baselines)

    def recovered(self, losses: Spliced | None) -> tuple[Result | None, str]:
        """Cross-entropy recovered, or None with the reason where there is one."""
        undefined = "" if losses is None else why_undefined(losses)
        return (None if losses is None or undefined else _recovered(losses, origin=self.origin)), undefined

    def _ratio_result(self, name: str, over: npt.NDArray[np.float64], under: npt.NDArray[np.float64], *, baselines: list[float]) -> Result:
        named = dict(zip(CONTROLS, baselines, strict=True))
        return _result(name, _ratio(over, under), _interval(over, under), n=len(over), origin=self.origin, baselines=named)


def _shares(measured: ByDocument, site: Site) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(unexplained, variance) of each document as shares of the site's whole variance, so that every site weighs the same."""
    sums = measured.sites[site]
    return sums.unexplained / sums.variance.sum(), sums.variance / sums.variance.sum()


def _mean_active(measured: ByDocument, members: tuple[Site, ...]) -> npt.NDArray[np.float64]:
    return np.mean([measured.members[site].active for site in members], axis=0)


def _all_fired(measured: ByDocument) -> npt.NDArray[np.int64]:
    return np.concatenate([member.fired for member in measured.members.values()])


def _control(name: str, measured: ByDocument) -> ControlDensity:
    counts, never = density(_all_fired(measured), int(measured.rows.sum()))
    return ControlDensity(name=name, counts=counts, never_active=never)


def density(fired: npt.NDArray[np.int64], rows: int) -> tuple[tuple[int, ...], int]:
    """Features in each bin of `DENSITY_EDGES` by how often they were active, and how many never were."""
    active = fired[fired > 0]
    logs = np.clip(np.log10(active / rows), DENSITY_EDGES[0], DENSITY_EDGES[-1])
    counts, _ = np.histogram(logs, bins=np.array(DENSITY_EDGES))
    return tuple(int(count) for count in counts), int((fired == 0).sum())


def why_undefined(losses: Spliced) -> str:
    """Why cross-entropy recovered has no meaning here: the mean in place of the activations must clearly cost something; "" when it does."""
    cost = losses.mean - losses.original
    interval = _interval(cost, losses.tokens_by_document)
    if interval.low > 0:
        return ""
    value = _ratio(cost, losses.tokens_by_document)
    where = f"{interval.low:.3g} to {interval.high:.3g} nats a token"
    return f"replacing the activations by their mean costs {value:.3g} ({where}), which is not clearly above 0, so there is nothing to recover"


def _recovered(losses: Spliced, *, origin: str) -> Result:
    span = losses.mean - losses.original
    value = _ratio(losses.mean - losses.dictionary, span)
    baselines = {"random": _ratio(losses.mean - losses.random, span), "mean": 0.0}
    interval = _interval(losses.mean - losses.dictionary, span)
    return _result("cross-entropy recovered", value, interval, n=len(span), origin=origin, baselines=baselines)


_DEFINITIONS = {
    "FVU": "sum |x - x_hat|^2 / sum |x - mean|^2 over held-out tokens; a ratio of sums",
    "L0": "mean active features a token",
    "dead share": "share of features active on no held-out token",
    "cross-entropy recovered": "(CE(mean) - CE(dictionary)) / (CE(mean) - CE(original)); tokens that are not kept pass unchanged",
}
_UNITS = {"L0": "features a token"}


def _result(name: str, value: float, interval: Interval, *, n: int, origin: str, baselines: Mapping[str, float]) -> Result:
    return Result(
        name=name,
        value=value,
        low=interval.low,
        high=interval.high,
        n=n,
        unit=_UNITS.get(name, ""),
        definition=_DEFINITIONS[name],
        baselines=baselines,
        origin=origin,
    )


def _ratio(over: npt.NDArray[np.float64], under: npt.NDArray[np.float64]) -> float:
    value = float(over.sum() / under.sum())
    assert math.isfinite(value)
    return value


def _interval(over: npt.NDArray[np.float64], under: npt.NDArray[np.float64]) -> Interval:
    return bootstrap_ratio(over.tolist(), under.tolist())
