"""What an index holds and how much of it."""

from dataclasses import dataclass, fields
from typing import Any, Literal

from microtome.errors import ConfigError

VALUE_DTYPES = ("float16", "float32")


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """How an index is built. The defaults suit dictionaries up to 65k features on up to 10M tokens."""

    values: Literal["float16", "float32"] = "float16"
    """How activations are stored; one that does not fit raises `ActivationsNotFinite`, one that rounds to 0 is left out."""
    top_examples: int = 32
    """Most examples kept of the strongest firings of each feature, one a document, near-duplicates collapsed."""
    strata: int = 5
    """Most slices of equal count that a feature's firings are cut into; equal activations stay together, so there can be fewer."""
    stratum_examples: int = 8
    """Most examples kept for each slice, drawn by a seeded hash of their position, one a document; those at the top can be among them."""
    window_before: int = 24
    """Most tokens shown before the peak of an example; the document's borders cut it short."""
    window_after: int = 12
    """Most tokens shown after it."""
    best_tokens: int = 12
    """Token ids listed for each feature, by total activation."""
    logits: int = 15
    """Vocabulary entries listed at either end of a feature's direct logits."""
    neighbours: int = 16
    """Nearest decoder directions listed."""
    fire_share: float = 0.25
    """For rule labels a feature *fires* where its activation exceeds this share of the 99th percentile of its activations in the train documents."""
    seed: int = 0
    """Seed of the examples drawn from the slices."""
    packed: bool = False
    """Keep where a feature fires as gaps, and its activations in the rows of the tokens alone: fewer bytes, each reading slower."""

    def to_json(self) -> dict[str, Any]:
        """As the manifest keeps it: `packed` where it is on, so that an index of before it existed is the same work."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values if self.packed else {name: value for name, value in values.items() if name != "packed"}

    def __post_init__(self) -> None:
        for name in ("top_examples", "strata", "stratum_examples", "best_tokens", "logits", "neighbours"):
            if getattr(self, name) < 1:
                raise ConfigError(f"IndexConfig.{name} is too small.", got=getattr(self, name), wanted="at least 1", do="Correct it.")
        if min(self.window_before, self.window_after) < 0:
            got = f"{self.window_before}, {self.window_after}"
            raise ConfigError("IndexConfig's window is negative.", got=got, wanted="at least 0", do="Correct it.")
        if not 0 <= self.fire_share < 1:
            raise ConfigError("IndexConfig.fire_share is not a share.", got=self.fire_share, wanted="0 ≤ share < 1", do="Correct it.")
