"""The quality report of a dictionary: figures on held-out documents, each beside its controls."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count

import numpy as np
import numpy.typing as npt

from microtome.activations import Corpus, Pooled, Shards, SideBySide
from microtome.errors import ShapeMismatch
from microtome.models import Model, Site
from microtome.progress import Progress, Throttled
from microtome.stats import Interval, Result, bootstrap_ratio, wilson
from microtome.training.controls import CONTROLS
from microtome.training.export import Made
from microtome.training.from_forward import FromForward
from microtome.training.measures import ByDocument, members_of
from microtome.training.records import ControlDensity, Quality, SiteQuality
from microtome.training.source import StoredRows
from microtome.training.splice import Spliced, Sums
from microtome.training.yardstick import Measured, Split, Yardstick

DENSITY_EDGES = tuple(edge / 2 for edge in range(-12, 1))
"""log10 of the share of tokens, from one in a million to all, in halves of a decade."""


def measure_quality(  # noqa: PLR0913  # what, on what, and how much of it
    dictionary: Made,
    shards: Shards | SideBySide | FromForward,
    *,
    corpus: Corpus,
    model: Model | None = None,
    turns: Pooled | None = None,
    split: Split = "test",
    tokens: int = 65_536,
    ce_tokens: int = 2048,
    alone: bool | None = None,
    progress: Progress | None = None,
) -> Quality:
    """Measure `dictionary` on at most `tokens` kept tokens of a split, and with `model` on `ce_tokens` tokens of its contexts.

    - **FVU** = sum |x - x_hat|^2 / sum |x - mean|^2 over all rows and columns, mean over these rows.
    - **L0** = active features a token. **Dead share** = features that were active on none of these tokens.
    - **Cross-entropy recovered** = (CE(mean) - CE(dictionary)) / (CE(mean) - CE(original)), CE of the next token with the activations of the sites
      written replaced at every kept token (for transcoders, the MLP's output): 1 is the model itself, 0 is what replacing each activation by the
      mean leaves. Tokens that are not kept (specials, template, attention sinks) pass unchanged throughout. Not defined (None, with the reason in
      `ce_undefined`) where the interval of CE(mean) - CE(original) reaches 0. Each of several sites alone is measured on half of the tokens: of at
      most eight sites, of more (a forward through 30 layers takes as long for one as for all) only with `alone=True`.

    Intervals are 95 %, by resampling documents (the dead share's is Wilson's over features). The controls are those that make sense for the kind,
    see `microtome.training.controls`; why one is not there is in `left_out`. A dictionary of pooled rows is measured on those of `turns`, without
    cross-entropy. Raises `ShapeMismatch` (also for another model than the shards'), `SiteNotFound`, `NotEnoughTokens`.
    """
    check_model(model, shards)
    source = shards if isinstance(shards, FromForward) else StoredRows(shards=shards, corpus=corpus, turns=turns)
    return quality_beside(dictionary, Yardstick(source, model=model, split=split, tokens=tokens, ce_tokens=ce_tokens, alone=alone), progress=progress)


def quality_beside(dictionary: Made, yardstick: Yardstick, *, progress: Progress | None = None) -> Quality:
    """`measure_quality` with what other dictionaries of the same source were measured with."""
    told, steps = Throttled(progress), count()

    def report(note: str) -> None:
        told("measuring quality", next(steps), 3, note=note)

    measured = yardstick.measure(dictionary, sites_of(dictionary, yardstick.source.shards), report=report)
    told("measuring quality", 3, 3)
    return quality_of(dictionary, measured, shards=yardstick.source.shards, split=yardstick.split)


def sites_of(dictionary: Made, source: Shards | SideBySide | FromForward) -> tuple[Site, ...]:
    """All sites read or written; `ShapeMismatch` where their widths are not the dictionary's."""
    for member in members_of(dictionary):
        widths = sum(source.width(source.site(site)) for site in member.inputs)
        if widths != member.d_in:
            do = "Open the shards that the dictionary was trained on."
            raise ShapeMismatch("the dictionary does not fit the shards.", got=member.d_in, wanted=widths, do=do)
    return tuple(dict.fromkeys(source.site(site) for member in members_of(dictionary) for site in (*member.inputs, *member.writes)))


def check_model(model: Model | None, shards: Shards | SideBySide | FromForward) -> None:
    """Raise `ShapeMismatch` if the shards are of another model: its losses would say nothing about a dictionary trained on them."""
    if model is not None and model.fingerprint != shards.model_fingerprint:
        do = f"Load the model that the shards were harvested from: {shards.model_ref}, in the same dtype."
        raise ShapeMismatch("the shards are of another model.", got=model.fingerprint, wanted=shards.model_fingerprint, do=do)


def quality_of(dictionary: Made, measured: Measured, *, shards: Shards | SideBySide | FromForward, split: str) -> Quality:
    """The report of what was measured."""
    mine, losses = measured.sums, measured.losses
    figures = Figures(
        mine=mine,
        beside={name: each.sums for name, each in measured.beside.items()},
        whole=frozenset(name for name, each in measured.beside.items() if each.whole),
        origin=shards.id,
    )
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
        control_densities=tuple(_control(name, measured.beside[name].sums) for name in ("random", "mean")),
        controls_left_out={name: measured.left_out[name] for name in CONTROLS if name in measured.left_out},
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
    """Results from sums: of the dictionary and of its controls."""

    mine: ByDocument
    beside: Mapping[str, ByDocument]
    whole: frozenset[str]
    """The controls that were measured on all rows; of the others no dead share is told, which falls with the rows."""
    origin: str

    def fvu(self, sites: tuple[Site, ...]) -> Result:
        """The mean over sites of their fractions of variance unexplained."""

        def pair(measured: ByDocument) -> tuple[Sums, Sums]:
            parts = [_shares(measured, site) for site in sites]
            return np.sum([unexplained for unexplained, _ in parts], 0), np.sum([variance for _, variance in parts], 0)

        return self._ratio_result("FVU", pair)

    def l0(self, members: tuple[Site, ...]) -> Result:
        """The mean over members of their active features a row."""
        return self._ratio_result("L0", lambda measured: (_mean_active(measured, _asked(measured, members)), measured.rows))

    def dead_share(self, members: tuple[Site, ...]) -> Result:
        """Over all features of the members."""

        def silent(measured: ByDocument) -> npt.NDArray[np.bool_]:
            return np.concatenate([measured.members[site].fired for site in _asked(measured, members)]) == 0

        mine = silent(self.mine)
        baselines = {name: float(silent(each).mean()) for name, each in self.beside.items() if name in self.whole}
        dead, of = int(mine.sum()), len(mine)
        return _result("dead share", dead / of, wilson(dead, of), n=of, origin=self.origin, baselines=baselines)

    def recovered(self, losses: Spliced | None) -> tuple[Result | None, str]:
        """Cross-entropy recovered, or None with the reason where there is one."""
        undefined = "" if losses is None else why_undefined(losses)
        return (None if losses is None or undefined else _recovered(losses, origin=self.origin)), undefined

    def _ratio_result(self, name: str, pair: Callable[[ByDocument], tuple[Sums, Sums]]) -> Result:
        over, under = pair(self.mine)
        baselines = {control: _ratio(*pair(each)) for control, each in self.beside.items()}
        return _result(name, _ratio(over, under), _interval(over, under), n=len(over), origin=self.origin, baselines=baselines)


def _asked(measured: ByDocument, members: tuple[Site, ...]) -> tuple[Site, ...]:
    """Those members, or all of a control that has others."""
    return members if set(members) <= set(measured.members) else tuple(measured.members)


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
    baselines = {name: _ratio(losses.mean - each, span) for name, each in losses.controls.items()}
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
