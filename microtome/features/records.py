"""What the index answers with: frozen records whose JSON form is `microtome.config.to_dict(record)`.

Units, once for all: an *activation* is in the dictionary's own units (what `encode` returns); a *share* is a number in [0, 1]; a *density*
is the share of kept tokens on which a feature is active (activation > 0); `position` counts tokens of the whole corpus from 0, and
`offset` counts tokens from the start of a document. Text comes in *pieces*, one string a token, whose concatenation is the exact text: a
character that is spread over several tokens stands on the last of them and the earlier ones are "". Pieces and titles are untrusted text.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts in half-open bins; the last bin is closed."""

    edges: tuple[float, ...]
    """Bin edges, one more than counts, ascending."""
    counts: tuple[int, ...]
    unit: str
    """What the edges measure: `activation`, `density`, `F1`, `offset in the document (tokens)`."""
    log: bool
    """Whether the edges are spaced evenly in the logarithm."""


@dataclass(frozen=True, kw_only=True)
class RuleLabel:
    """The best rule found for a feature without asking any language model, and how well it does.

    The rule says of every kept token whether the feature fires there. Precision, recall and F1 are exact counts over the store.
    """

    text: str
    """As a person would write it: `the token " the"`, `text about Biology`, `often " city" (weak rule, F1 0.12)`, `never fires`."""
    kind: str
    """`token`, `word`, `class`, `topic`, `role`, `pair`, `after`, `position`; `none` when no candidate fits, `dead` when it never fires."""
    f1: float
    """F1 of "the rule holds" against "the feature fires" over all kept tokens of the store."""
    precision: float
    """Share of the tokens where the rule holds on which the feature fires."""
    recall: float
    """Share of the tokens where the feature fires on which the rule holds."""
    f1_test: float | None
    """F1 on the test documents only (rules are picked on the train documents). None when the feature fires on none of them, and when it fires
    on no train document: then the rule and its threshold are picked on all documents, and nothing is left to test them on."""
    f1_null: float
    """The shuffled null beside it: expected F1 of this rule on the test documents if the firings fell on kept tokens at random."""
    threshold: float
    """Activation above which the feature counts as firing."""
    weak: bool
    """F1 below 0.3, over the store or on the test documents: the text says so too."""


@dataclass(frozen=True, kw_only=True)
class Label:
    """A name for a feature: made by a rule, or written by a person."""

    feature: int
    text: str
    origin: str
    """`rule` or `user`."""
    f1: float | None
    """F1 over the store for a rule; None for a person's label."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """A stretch of tokens around one firing."""

    doc: int
    title: str
    corpus_label: str
    """The document's label in its corpus ("" when it has none)."""
    split: str
    """`train`, `dev` or `test`."""
    role: str
    """Role of the turn that holds the peak (`text` in plain documents)."""
    start: int
    """Position of the first token of the window."""
    offset: int
    """Tokens from the start of the document to the first token of the window."""
    peak: int
    """Index into `pieces` of the token the window was chosen for."""
    activation: float
    """Activation at the peak."""
    pieces: tuple[str, ...]
    activations: tuple[float, ...]
    """The feature's activation on each piece (0 where it does not fire)."""
    duplicates: int = 0
    """How many other documents held a near-identical window that was left out (same tokens around the peak)."""


@dataclass(frozen=True, kw_only=True)
class Stratum:
    """Examples from one slice of the feature's firings, sorted by activation and cut into slices of equal count."""

    index: int
    """0 is the weakest slice."""
    low: float
    """Activations in this slice are ≥ low …"""
    high: float
    """… and < high (≤ high in the strongest slice)."""
    count: int
    """Firings in this slice."""
    examples: tuple[Window, ...]


@dataclass(frozen=True, kw_only=True)
class Breakdown:
    """How often a feature fires in one part of the corpus (a role, a corpus label, a split)."""

    name: str
    count: int
    """Kept tokens of this part on which the feature fires."""
    tokens: int
    """Kept tokens of this part."""
    density: float
    """count / tokens."""
    lift: float
    """density here / density over the whole store."""


@dataclass(frozen=True, kw_only=True)
class TokenStat:
    """One token id under a feature."""

    token: int
    piece: str
    count: int
    """Firings on this token."""
    share: float
    """Share of the feature's firings that are on this token."""
    mean: float
    """Mean activation of those firings."""
    rate: float
    """P(fires | token): firings / kept occurrences of this token."""


@dataclass(frozen=True, kw_only=True)
class TokenProfile:
    """Which tokens a feature fires on."""

    entropy: float
    """Entropy in bits of the token id among the firings: 0 = always the same token."""
    distinct: int
    """Different token ids among the firings."""
    tokens: tuple[TokenStat, ...]
    """The commonest ones, by total activation."""


@dataclass(frozen=True, kw_only=True)
class LogitEntry:
    """One vocabulary entry that a feature's direction raises or lowers directly."""

    token: int
    piece: str
    logit: float
    """Unembedding row (final norm's gain folded in) · decoder direction, the direction at unit length."""


@dataclass(frozen=True, kw_only=True)
class Logits:
    """The ends of a feature's direct effect on the output, over tokens that text can contain."""

    top: tuple[LogitEntry, ...]
    bottom: tuple[LogitEntry, ...]


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A feature with a similar decoder direction."""

    feature: int
    cosine: float
    label: str
    density: float


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Counts and moments of a feature over the kept tokens of the store."""

    count: int
    """Tokens on which it fires."""
    density: float
    """count / kept tokens."""
    documents: int
    """Documents in which it fires."""
    document_share: float
    """documents / all documents."""
    max: float
    """Largest activation."""
    mean: float
    """Mean activation where it fires (0 for a dead feature)."""
    second_moment: float
    """Mean squared activation where it fires."""
    decoder_norm: float
    """Length of the decoder direction in model units."""
    encoder_norm: float
    """Length of the encoder direction in model units."""


@dataclass(frozen=True, kw_only=True)
class Note:
    """A remark that a person left on a feature."""

    text: str
    created: str
    """ISO 8601, UTC."""


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One line of the feature table. Its number columns are the names that filters and sorts take (`TABLE_COLUMNS`)."""

    feature: int
    label: str
    origin: str
    """`rule` or `user`."""
    rule_kind: str
    f1: float
    """The rule's F1 over the store."""
    density: float
    documents: int
    max: float
    mean: float
    entropy: float
    """Bits; see `TokenProfile`."""
    token: str
    """The commonest token's piece ("" for a dead feature)."""
    top_logit: str
    """Piece of the token it raises most."""
    cosine: float
    """Cosine of the nearest other decoder direction."""
    corpus_label: str
    """Corpus label with the highest lift ("" without labels)."""
    lift: float
    """That label's lift."""
    site: str
    """The site that its dictionary reads."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A page of the feature table."""

    rows: tuple[TableRow, ...]
    total: int
    """Features that pass the filter and the search."""
    n_features: int
    offset: int
    limit: int
    sort: str
    descending: bool
    filter: str
    search: str


@dataclass(frozen=True, kw_only=True)
class Overview:
    """An index at a glance: what it was made from and how its features are spread."""

    name: str
    id: str
    sources: Mapping[str, str]
    """`model` (reference), `quantised` ("" when not), `reads` (site), `corpus`, and artifact ids `corpus_id`, `shards_id`, `dictionary_id`."""
    counts: Mapping[str, int]
    """`features`, `dead`, `rare` (active on fewer than 10 tokens, not dead), `dense` (density > 0.1), `tokens`, `kept`, `documents`, `nonzeros`."""
    l0: float
    """Mean number of active features on a kept token."""
    density: Histogram
    """Densities of the features that fire, logarithmic bins."""
    f1: Histogram
    """F1 of the rule labels of the features that fire, 20 even bins."""
    rules: Mapping[str, int]
    """Features by kind of rule label; `weak` counts the weak ones whatever their kind."""
    splits: Mapping[str, int]
    """Documents in train, dev and test."""
    corpus_labels: Mapping[str, int]
    """Kept tokens by corpus label."""
    roles: Mapping[str, int]
    """Kept tokens by role."""
    quality: Mapping[str, Any] = field(default_factory=lambda: {})
    """The dictionary's held-out figures as its artifact states them (empty when they were not measured)."""
    examples: tuple[TableRow, ...] = ()
    """A few features with strong rules, to begin with."""


@dataclass(frozen=True, kw_only=True)
class TurnView:
    """One turn of a document, in tokens from the document's start."""

    role: str
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class DocumentFeature:
    """A feature in one document."""

    feature: int
    label: str
    score: float
    """What it was ranked by."""
    count: int
    """Tokens of the document on which it fires."""
    max: float
    """Largest activation in the document."""
    share_of_max: float
    """That, over the feature's maximum over the store."""
    density: float
    """Over the whole store."""
    offsets: tuple[int, ...]
    """Where it fires, in tokens from the document's start (only inside the returned stretch) …"""
    activations: tuple[float, ...]
    """… and how strongly."""


@dataclass(frozen=True, kw_only=True)
class DocumentView:
    """A stretch of one document with the features active in it, ranked."""

    doc: int
    title: str
    corpus_label: str
    source: str
    split: str
    n_tokens: int
    """Tokens of the whole document."""
    offset: int
    """Where the returned stretch begins, in tokens from the document's start."""
    pieces: tuple[str, ...]
    kept: tuple[bool, ...]
    """False where a token takes no part in statistics: special, template, or an attention sink."""
    strongest: tuple[int, ...]
    """For each token the feature that is strongest as a share of its own maximum; -1 where none fires."""
    turns: tuple[TurnView, ...]
    rank: str
    """`specific`, `share`, `max` or `count`; see `FeatureIndex.document`."""
    n_active: int
    """Different features active in the stretch."""
    features: tuple[DocumentFeature, ...]


@dataclass(frozen=True, kw_only=True)
class TokenFeature:
    """A feature on one token."""

    feature: int
    label: str
    activation: float
    share_of_max: float
    """Activation over the feature's maximum over the store."""
    percentile: float
    """Share of the feature's firings in the store that are weaker: exactly, equal ones not counted."""
    density: float


@dataclass(frozen=True, kw_only=True)
class TokenView:
    """One token of a document and every feature that fires on it, strongest share of its maximum first."""

    doc: int
    offset: int
    position: int
    token: int
    piece: str
    kept: bool
    role: str
    features: tuple[TokenFeature, ...]


@dataclass(frozen=True, kw_only=True)
class DocumentRow:
    """One line of the list of documents."""

    doc: int
    title: str
    corpus_label: str
    split: str
    n_tokens: int


@dataclass(frozen=True, kw_only=True)
class DocumentList:
    """A page of the list of documents."""

    rows: tuple[DocumentRow, ...]
    total: int
    """Documents that match."""
    n_documents: int
    offset: int
    limit: int
    search: str


@dataclass(frozen=True, kw_only=True)
class SearchHit:
    """A feature found by a text that was typed in."""

    feature: int
    label: str
    score: float
    """What it was ranked by."""
    max: float
    """Largest activation in the text."""
    peak: int
    """Index of that token."""
    share_of_max: float
    """Largest activation over the feature's maximum over the store; above 1 the store's examples were too narrow, 1 if it never fires there."""
    percentile: float
    """Share of the feature's firings in the store that are weaker than the largest one here."""
    density: float
    activations: tuple[float, ...]
    """On each token of the text."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """Features ranked by how they respond to a text."""

    text: str
    tokens: tuple[int, ...]
    pieces: tuple[str, ...]
    rank: str
    """`specific`, `share`, `max` or `count`; see `FeatureIndex.search`."""
    n_active: int
    """Different features active on the text."""
    hits: tuple[SearchHit, ...]


@dataclass(frozen=True, kw_only=True)
class TextTest:
    """One feature on a text that was typed in."""

    feature: int
    label: str
    text: str
    tokens: tuple[int, ...]
    pieces: tuple[str, ...]
    kept: tuple[bool, ...]
    """False where the token would take no part in the store's statistics (attention sinks at the start of a context)."""
    activations: tuple[float, ...]
    shares_of_max: tuple[float, ...]
    """Each activation over the feature's maximum over the store; for a feature that never fires there 1 where it fires."""
    percentiles: tuple[float, ...]
    """Share of the feature's firings in the store that are weaker (0 where it does not fire)."""
    ranks: tuple[int, ...]
    """Place among the feature's firings in the store: 1 + those that are stronger (0 where it does not fire)."""
    max: float
    peak: int
    above_store: bool
    """Stronger than anything in the store: its examples were too narrow."""
