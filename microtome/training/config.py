"""What a training run is: its dictionary, its budget, its schedule."""

import math
from dataclasses import dataclass
from typing import Literal

from microtome.errors import ConfigError
from microtome.models import Site


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One dictionary to train. Learning rates and coefficients are for inputs scaled to norm √d, which the dictionary does itself."""

    site: Site
    d_dict: int = 4608
    """Features."""
    k: int = 32
    """Features active a token."""
    tokens: int = 2_000_000
    """Tokens trained on; more than the training split holds means several epochs."""
    batch_size: int = 4096
    """Tokens a step."""
    lr: float | None = None
    """Peak learning rate of Adam; None searches among `lr_search`."""
    lr_search: tuple[float, ...] = (2e-3, 4e-3, 8e-3)
    """Peak learning rates tried on the same batches; the one with the lowest FVU on the dev split trains."""
    lr_search_tokens: int = 200_000
    """Tokens each of them gets, with a schedule of its own that ends there; at most half of `tokens`."""
    warmup_share: float = 0.02
    """Share of the steps over which the learning rate rises linearly from 0."""
    decay_share: float = 0.5
    """Share of the steps, at the end, over which it falls linearly to 0."""
    aux_coefficient: float = 1 / 32
    """Weight of the revival loss; 0 turns revival off."""
    dead_after_tokens: int = 200_000
    """A feature that was not active for that long counts as dead and is revived."""
    encoder_norm: float = 0.5
    """Norm of the encoder's rows at the start; the decoder's have norm 1 throughout."""
    init: Literal["geometric_median", "mean"] = "geometric_median"
    """Where the decoder's bias starts."""
    encoder_product: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number type of the product that proposes the active features; their values are fp32 either way. See `pick_product`."""
    checkpoint_every_tokens: int = 400_000
    """How much work a kill can cost. Changes nothing in the result."""
    seed: int = 0

    @property
    def steps(self) -> int:
        """Steps of the training itself."""
        return self.tokens // self.batch_size

    @property
    def search_steps(self) -> int:
        """Steps of every trial of the search; 0 when the learning rate is given."""
        if self.lr is not None or len(self.lr_search) == 1:
            return 0
        return max(1, min(self.lr_search_tokens, self.tokens // 2) // self.batch_size)

    def __post_init__(self) -> None:
        _require(self.d_dict >= 1, "d_dict", self.d_dict, "1 or more")
        _require(1 <= self.k <= self.d_dict, "k", self.k, f"1 to d_dict ({self.d_dict})")
        _require(self.batch_size >= 1, "batch_size", self.batch_size, "1 or more")
        _require(self.tokens >= self.batch_size, "tokens", self.tokens, f"at least one batch ({self.batch_size})")
        _require(self.lr is None or 0 < self.lr < math.inf, "lr", self.lr, "above 0 and finite, or none for a search")
        _require(self.lr is not None or len(self.lr_search) > 0, "lr_search", self.lr_search, "at least one learning rate")
        _require(all(0 < rate < math.inf for rate in self.lr_search), "lr_search", self.lr_search, "finite rates above 0")
        _require(self.lr_search_tokens >= self.batch_size, "lr_search_tokens", self.lr_search_tokens, f"at least one batch ({self.batch_size})")
        _require(0 <= self.warmup_share < 1, "warmup_share", self.warmup_share, "0 to below 1")
        _require(0 <= self.decay_share <= 1 - self.warmup_share, "decay_share", self.decay_share, "0 to 1 - warmup_share")
        _require(0 <= self.aux_coefficient < math.inf, "aux_coefficient", self.aux_coefficient, "0 or more, finite")
        _require(self.dead_after_tokens >= 1, "dead_after_tokens", self.dead_after_tokens, "1 or more")
        _require(self.checkpoint_every_tokens >= 1, "checkpoint_every_tokens", self.checkpoint_every_tokens, "1 or more")
        _require(0 < self.encoder_norm < math.inf, "encoder_norm", self.encoder_norm, "above 0 and finite")


def _require(holds: bool, field: str, got: object, wanted: str) -> None:  # noqa: PLR0917  # a table of rules reads best in columns
    if not holds:
        raise ConfigError(f"TrainConfig.{field} is out of range.", got=got, wanted=wanted, do=f"Correct {field}.")
