"""What several formats spell the same: tokens with values, `pos_str` and `neg_str`, `freq_hist_data_bar_values`."""

from typing import Any

from microtome.features.exchange.files import Json, invalid, numbers, texts
from microtome.features.exchange.record import Bars, FeatureRecord, TokenLogit, as_bytes


def read_strip(found: Any, *, values: str, where: str) -> tuple[tuple[bytes, ...], tuple[float, ...]]:
    """The tokens and the activations of an example, one for each; `BundleInvalid`."""
    if not isinstance(found, dict):
        raise invalid(where, got=type(found).__name__, wanted="an example: an object with tokens and values")
    strings, activations = texts(found, "tokens", where=where), numbers(found, values, where=where)
    if len(strings) != len(activations) or not activations:
        raise invalid(where, got=f"{len(strings)} tokens and {len(activations)} values", wanted="a value for each token, at least one")
    return tuple(map(as_bytes, strings)), activations


def read_bars(found: Json, name: str, *, where: str) -> Bars | None:
    """The histogram `name`; None where there is none."""
    heights, values = f"{name}_hist_data_bar_heights", f"{name}_hist_data_bar_values"
    if not found.get(heights):
        return None
    return Bars(values=numbers(found, values, where=where), heights=numbers(found, heights, where=where))


def read_logits(found: Json, end: str, *, where: str) -> tuple[TokenLogit, ...]:
    """The tokens of one end, `pos` or `neg`."""
    if not found.get(f"{end}_str"):
        return ()
    tokens, values = texts(found, f"{end}_str", where=where), numbers(found, f"{end}_values", where=where)
    if len(tokens) != len(values):
        raise invalid(where, got=f"{len(tokens)} tokens and {len(values)} logits", wanted="a logit for each token")
    return tuple(TokenLogit(text=text, value=value) for text, value in zip(tokens, values, strict=True))


def shared_json(record: FeatureRecord) -> Json:
    """Logits and histograms."""
    found: Json = {}
    for name, entries in (("neg", record.bottom_logits), ("pos", record.top_logits)):
        found |= {f"{name}_str": [entry.text for entry in entries], f"{name}_values": [entry.value or 0.0 for entry in entries]}
    for name, bars in (("freq", record.activations or Bars()), ("logits", record.logits or Bars())):
        found |= {f"{name}_hist_data_bar_heights": list(bars.heights), f"{name}_hist_data_bar_values": list(bars.values)}
    return found
