"""Everything known about one feature in one record, and how a notebook shows it."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from microtome.features.html import STYLE, bars, code, logits, windows
from microtome.features.records import (
    Breakdown,
    Histogram,
    Label,
    Logits,
    Neighbour,
    Note,
    RuleLabel,
    Statistics,
    Stratum,
    TokenProfile,
    Window,
)


@dataclass(frozen=True, kw_only=True)
class Card:
    """Everything known about one feature."""

    index: str
    """Name of the index."""
    feature: int
    site: str
    """The site that its dictionary reads …"""
    number: int
    """… and its number there."""
    n_features: int
    n_dictionaries: int
    """Of the index: where it is one, no other layer can have the feature."""
    label: Label
    """The person's label if there is one, else the rule's."""
    rule: RuleLabel
    statistics: Statistics
    histogram: Histogram
    """Activations where it fires, 64 logarithmic bins."""
    offsets: Histogram
    """Where in the document it fires, in tokens from the start."""
    top: tuple[Window, ...]
    """Strongest examples: one window a document, near-duplicates collapsed."""
    strata: tuple[Stratum, ...]
    """Strongest slice first."""
    breakdowns: Mapping[str, tuple[Breakdown, ...]]
    """By `role`, `corpus_label` and `split`; the densest part first."""
    tokens: TokenProfile
    logits: Logits
    neighbours: tuple[Neighbour, ...]
    notes: tuple[Note, ...] = ()
    verdict: str = ""
    """What a person found of its label; "" for nothing yet."""
    lists: tuple[str, ...] = ()
    """Lists that people put it on."""

    def _repr_html_(self) -> str:
        return _html(self)


def _html(card: Card) -> str:
    numbers = card.statistics
    facts = (
        f"density {numbers.density:.3%} · {numbers.count:,} tokens in {numbers.documents:,} documents · "
        f"max {numbers.max:.3g} · mean {numbers.mean:.3g} · token entropy {card.tokens.entropy:.2f} bits"
    )
    tokens = "".join(
        f"<tr><td>{code(stat.piece)}</td><td>{stat.share:.0%} of firings</td><td>P(fires | token) {stat.rate:.2f}</td></tr>"
        for stat in card.tokens.tokens[:8]
    )
    near = "".join(f"<tr><td>{n.feature}</td><td>{escape(n.label)}</td><td>{n.cosine:.2f}</td></tr>" for n in card.neighbours[:8])
    columns = [
        f"<div><h4>activations</h4>{bars(card.histogram)}</div>",
        f"<div><h4>tokens</h4><table>{tokens}</table></div>",
        f"<div><h4>raises</h4><table>{logits(card.logits.top[:8])}</table></div>",
        f"<div><h4>lowers</h4><table>{logits(card.logits.bottom[:8])}</table></div>",
        f"<div><h4>neighbours</h4><table>{near}</table></div>",
    ]
    parts = [f"<h4>strongest examples</h4>{windows(card.top[:10], numbers.max)}"]
    for stratum in card.strata[1:]:
        title = f"{stratum.low:.3g} ≤ activation &lt; {stratum.high:.3g} ({stratum.count:,} firings)"
        parts.append(f"<h4>{title}</h4>{windows(stratum.examples[:3], numbers.max)}")
    return (
        f'{STYLE}<div class="mt"><h3>feature {card.feature}: {escape(card.label.text)}</h3>'
        f'<div class="dim">{facts}<br>{_rule(card)}</div><div class="cols">{"".join(columns)}</div>{"".join(parts)}</div>'
    )


def _rule(card: Card) -> str:
    rule = card.rule
    if rule.kind == "dead":
        return "no rule: it never fires in this store"
    test = "not tested on held-out documents" if rule.f1_test is None else f"test {rule.f1_test:.2f}, chance {rule.f1_null:.2f}"
    return f"rule: {escape(rule.text)} · F1 {rule.f1:.2f} ({test})"
