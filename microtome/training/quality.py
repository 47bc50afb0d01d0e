"""The quality report of a dictionary: figures on held-out documents, each beside a random dictionary and the mean."""

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

from microtome.activations import Corpus, Shards, held_out
from microtome.dictionaries import SAE, MeanDictionary, random_like
from microtome.errors import ShapeMismatch
from microtome.models import Model
from microtome.progress import Progress, Throttled
from microtome.stats import Interval, Result, bootstrap_ratio, wilson
from microtome.training.measures import ByDocument, Spliced, by_document, spliced
from microtome.training.records import ControlDensity, Quality

DENSITY_EDGES = tuple(edge / 2 for edge in range(-12, 1))
"""log10 of the share of tokens, from one in a million to all, in halves of a decade."""


def measure_quality(
    dictionary: SAE,
    shards: Shards,
    *,
    corpus: Corpus,
    model: Model | None = None,
    split: Literal["train", "dev", "test"] = "test",
    tokens: int = 65_536,
    ce_tokens: int = 4096,
    progress: Progress | None = None,
) -> Quality:
    """Measure `dictionary` on at most `tokens` kept tokens of a split, and with `model` on `ce_tokens` tokens of its contexts.

    - **FVU** = sum |x - x_hat|^2 / sum |x - mean|^2 over all rows and columns, mean over these rows.
    - **L0** = active features a token. **Dead share** = features that were active on none of these tokens.
    - **Cross-entropy recovered** = (CE(mean) - CE(dictionary)) / (CE(mean) - CE(original)), CE of the next token with the site's activations
      replaced at every kept token: 1 is the model itself, 0 is what replacing each activation by the mean leaves. Tokens that are not kept
      (specials, template, attention sinks) pass unchanged in all four. Not defined (None, with the reason in `ce_undefined`) where the interval
      of CE(mean) - CE(original) reaches 0.

    Intervals are 95 %, by resampling documents (the dead share's is Wilson's over features). The controls are a random dictionary of the same
    size and the mean of the train split. Raises `ShapeMismatch` (also for another model than the shards'), `SiteNotFound`, `NotEnoughTokens`.
    """
    check_model(model, shards)
    site = shards.site(dictionary.reads)
    if shards.width(site) != dictionary.d_in:
        do = "Open the shards that the dictionary was trained on."
        raise ShapeMismatch("the dictionary does not fit the shards.", got=dictionary.d_in, wanted=shards.width(site), do=do)
    report = Throttled(progress)
    held = held_out(shards, corpus, site=site, n=tokens, split=split)
    device = dictionary.W_enc.device if model is None else model.device
    train_mean = held_out(shards, corpus, site=site, n=16_384, split="train").x.float().mean(0)
    controls = (random_like(dictionary), MeanDictionary(train_mean, site=site))
    measured: list[ByDocument] = []
    for done, each in enumerate((dictionary, *controls)):
        report("measuring quality", done, 4, note="reconstruction")
        measured.append(by_document(each, held, device=device))
    report("measuring quality", 3, 4, note="cross-entropy")
    losses = None
    if model is not None:
        losses = spliced(model, shards, corpus=corpus, site=site, dictionaries=(dictionary, *controls), split=split, tokens=ce_tokens)
    report("measuring quality", 4, 4)
    return _quality(dictionary, measured, losses, shards=shards, split=split)


def check_model(model: Model | None, shards: Shards) -> None:
    """Raise `ShapeMismatch` if the shards are of another model: its losses would say nothing about a dictionary trained on them."""
    if model is not None and model.fingerprint != shards.model_fingerprint:
        do = f"Load the model that the shards were harvested from: {shards.model_ref}, in the same dtype."
        raise ShapeMismatch("the shards are of another model.", got=model.fingerprint, wanted=shards.model_fingerprint, do=do)


def _quality(dictionary: SAE, measured: list[ByDocument], losses: Spliced | None, *, shards: Shards, split: str) -> Quality:
    mine, random, mean = measured
    undefined = "" if losses is None else why_undefined(losses)
    recovered = None if losses is None or undefined else _recovered(losses, origin=shards.id)
    rows = int(mine.rows.sum())
    counts, never = density(mine.fired, rows)
    names = ("random", "mean")
    fvus = [_ratio(each.unexplained, each.variance) for each in measured]
    l0s = [_ratio(each.active, each.rows) for each in measured]
    silent = int((mine.fired == 0).sum())
    return Quality(
        fvu=_result(
            "FVU",
            fvus[0],
            _interval(mine.unexplained, mine.variance),
            n=len(mine.rows),
            origin=shards.id,
            baselines=dict(zip(names, fvus[1:], strict=True)),
        ),
        l0=_result(
            "L0", l0s[0], _interval(mine.active, mine.rows), n=len(mine.rows), origin=shards.id, baselines=dict(zip(names, l0s[1:], strict=True))
        ),
        dead_share=_result(
            "dead share",
            silent / dictionary.d_dict,
            wilson(silent, dictionary.d_dict),
            n=dictionary.d_dict,
            origin=shards.id,
            baselines={name: float((each.fired == 0).mean()) for name, each in (("random", random), ("mean", mean))},
        ),
        ce_recovered=recovered,
        ce_undefined=undefined,
        density_edges=DENSITY_EDGES,
        density_counts=counts,
        never_active=never,
        control_densities=tuple(_control(name, each) for name, each in zip(names, (random, mean), strict=True)),
        tokens=rows,
        documents=len(mine.rows),
        split=split,
        model=shards.model_ref if shards.quantised is None else f"{shards.model_ref} ({shards.quantised})",
    )


def _control(name: str, measured: ByDocument) -> ControlDensity:
    counts, never = density(measured.fired, int(measured.rows.sum()))
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
