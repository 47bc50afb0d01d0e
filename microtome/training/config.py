"""What a training run is: its sites, its nonlinearity and losses, its budget, its schedule. An architecture is these values, never a class."""

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from microtome.dictionaries import Nonlinearity, TopK, nonlinearity_from_json, nonlinearity_to_json
from microtome.errors import ConfigError
from microtome.models import Site
from microtome.training.losses import KL, L0, AuxK, Loss, Penalty

Kind = Literal["sae", "transcoder", "layers", "cross-layer", "crosscoder"]
Pooling = Literal["token", "turn", "span", "last", "residual"]


def _require(holds: bool, field: str, got: object, wanted: str) -> None:  # noqa: PLR0917  # a table of rules reads best in columns
    if not holds:
        raise ConfigError(f"{field} is out of range.", got=got, wanted=wanted, do=f"Correct {field}.")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How fast it learns, and when. Rates are for inputs scaled to norm √d, which training does itself."""

    lr_search: tuple[float, ...] = (2e-3, 4e-3, 8e-3)
    """Peak learning rates tried on the same batches; the one with the lowest FVU (and penalties) on the dev split trains."""
    lr_search_tokens: int = 200_000
    """Tokens each of them gets, with a schedule of its own that ends there; at most half of `tokens`."""
    warmup_share: float = 0.02
    """Share of the steps over which the learning rate rises linearly from 0."""
    decay_share: float = 0.5
    """Share of the steps, at the end, over which it falls linearly to 0."""
    penalty_warmup_share: float = 0.1
    """Share of the steps over which the sparsity penalties rise linearly from 0."""
    checkpoint_every_tokens: int = 400_000
    """How much work a kill can cost. Changes nothing in the result."""

    def __post_init__(self) -> None:
        _require(len(self.lr_search) > 0, "Schedule.lr_search", self.lr_search, "at least one learning rate")
        _require(all(0 < rate < math.inf for rate in self.lr_search), "Schedule.lr_search", self.lr_search, "finite rates above 0")
        _require(self.lr_search_tokens >= 1, "Schedule.lr_search_tokens", self.lr_search_tokens, "1 or more")
        _require(0 <= self.warmup_share < 1, "Schedule.warmup_share", self.warmup_share, "0 to below 1")
        _require(0 <= self.decay_share <= 1 - self.warmup_share, "Schedule.decay_share", self.decay_share, "0 to 1 - warmup_share")
        _require(0 <= self.penalty_warmup_share <= 1, "Schedule.penalty_warmup_share", self.penalty_warmup_share, "0 to 1")
        _require(self.checkpoint_every_tokens >= 1, "Schedule.checkpoint_every_tokens", self.checkpoint_every_tokens, "1 or more")


@dataclass(frozen=True, kw_only=True)
class Build:
    """Which weights there are, how they start, and what holds them."""

    skip: bool = False
    """An affine skip connection from what is read to what is written at the same layer (transcoders)."""
    tied_decoder: bool = False
    """A cross-layer transcoder's features write the same direction at every layer."""
    frozen_decoder: bool = False
    """The decoder stays at its random start: a control that learns only to choose."""
    decoder_norm: Literal["unit", "free"] = "unit"
    """Whether a feature's decoder row (over all it writes) is held at norm 1."""
    encoder_norm: float = 0.5
    """Norm of the encoder's rows at the start."""
    init: Literal["geometric_median", "mean"] = "geometric_median"
    """Where the decoder's bias starts."""
    start_l0: float | None = None
    """Features active in a row at the start of ReLU, JumpReLU and gated dictionaries, each equally often; none: 4 times the L0 target, or 32."""
    bandwidth: float = 1.0
    """Width of the rectangle that stands for the derivative of JumpReLU's jump, in scaled units."""
    jump_gradient: Literal["all", "threshold"] = "all"
    """Whether the jump's gradient reaches all parameters (Anthropic, January 2025) or the thresholds alone (Rajamanoharan et al. 2024)."""

    def __post_init__(self) -> None:
        _require(0 < self.encoder_norm < math.inf, "Build.encoder_norm", self.encoder_norm, "above 0 and finite")
        _require(self.start_l0 is None or 0 < self.start_l0 < math.inf, "Build.start_l0", self.start_l0, "above 0 and finite, or none")
        _require(0 < self.bandwidth < math.inf, "Build.bandwidth", self.bandwidth, "above 0 and finite")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One dictionary, or one set of them, to train."""

    kind: Kind = "sae"
    reads: tuple[Site, ...]
    """One site; several for `layers`, `cross-layer` and `crosscoder`."""
    writes: tuple[Site, ...] = ()
    """What is reconstructed; empty means what is read."""
    pooling: Pooling = "token"
    """What a row is."""
    nonlinearity: Nonlinearity = field(default=TopK(k=32), metadata={"to_json": nonlinearity_to_json, "from_json": nonlinearity_from_json})
    losses: tuple[Loss, ...] = ()
    """Beside the mean squared error, which always counts."""
    revival: AuxK = field(default_factory=AuxK)
    d_dict: int = 4608
    """Features; of each member of a set."""
    tokens: int = 2_000_000
    """Rows trained on; more than the training split holds means several epochs."""
    batch_size: int = 4096
    """Rows a step."""
    lr: float | None = None
    """Peak learning rate of Adam; None searches among `schedule.lr_search`."""
    schedule: Schedule = Schedule()
    build: Build = Build()
    encoder_product: Literal["auto", "float32", "bfloat16", "int8"] = "auto"
    """Number type of the product that proposes the active features; their values are fp32 either way. See `pick_product`."""
    seed: int = 0

    @property
    def targets(self) -> tuple[Site, ...]:
        """The sites reconstructed."""
        return self.writes or self.reads

    @property
    def sites(self) -> tuple[Site, ...]:
        """All sites whose activations are needed, each once."""
        return tuple(dict.fromkeys((*self.reads, *self.writes)))

    @property
    def start_share(self) -> float:
        """Share of rows in which a feature that a threshold chooses is active at the start, at most one half."""
        target = next((loss.target for loss in self.losses if isinstance(loss, L0) and loss.target is not None), 8.0)
        return min(0.5, (self.build.start_l0 or 4 * target) / self.d_dict)

    @property
    def steps(self) -> int:
        """Steps of the training itself."""
        return self.tokens // self.batch_size

    @property
    def search_steps(self) -> int:
        """Steps of every trial of the search; 0 when the learning rate is given."""
        if self.lr is not None or len(self.schedule.lr_search) == 1:
            return 0
        return max(1, min(self.schedule.lr_search_tokens, self.tokens // 2) // self.batch_size)

    def __post_init__(self) -> None:
        _require(self.d_dict >= 1, "TrainConfig.d_dict", self.d_dict, "1 or more")
        k = getattr(self.nonlinearity, "k", 1)
        _require(1 <= k <= self.d_dict, "k", k, f"1 to d_dict ({self.d_dict})")
        _require(self.batch_size >= 1, "TrainConfig.batch_size", self.batch_size, "1 or more")
        _require(self.tokens >= self.batch_size, "TrainConfig.tokens", self.tokens, f"at least one batch ({self.batch_size})")
        _require(self.lr is None or 0 < self.lr < math.inf, "TrainConfig.lr", self.lr, "above 0 and finite, or none for a search")
        _check_sites(self)
        _check_losses(self)

    def of_layer(self, index: int) -> "TrainConfig":
        """The config of one member of `layers`: an SAE where it writes what it reads, else a transcoder."""
        read, write = self.reads[index], self.targets[index]
        kind: Kind = "sae" if read == write else "transcoder"
        return replace(self, kind=kind, reads=(read,), writes=() if read == write else (write,))


def _check_sites(config: TrainConfig) -> None:
    kind, reads, writes = config.kind, config.reads, config.writes
    several = kind in {"layers", "cross-layer", "crosscoder"}
    _require(len(reads) >= 1 and (several or len(reads) == 1), "reads", [str(site) for site in reads], "several sites" if several else "one site")
    _require(len(set(reads)) == len(reads), "reads", [str(site) for site in reads], "each site once")
    _require(
        kind not in {"sae", "crosscoder"} or writes in {(), reads},
        "writes",
        [str(site) for site in writes],
        f"none: the kind {kind} writes what it reads",
    )
    _require(kind != "transcoder" or len(writes) >= 1, "writes", "none", "the site that the transcoder writes, e.g. L3.mlp_out for L3.mlp_in")
    paired = kind not in {"layers", "cross-layer"} or len(config.targets) == len(reads)
    _require(paired, "writes", [str(site) for site in writes], f"one for each of the {len(reads)} sites read")
    _require(not config.build.skip or kind not in {"sae", "crosscoder"}, "Build.skip", True, f"false: the kind {kind} would copy its input")
    _require(not config.build.tied_decoder or kind == "cross-layer", "Build.tied_decoder", True, "false, except for cross-layer transcoders")


def _check_losses(config: TrainConfig) -> None:
    name = type(config.nonlinearity).__name__
    for loss in config.losses:
        loss.check(config.nonlinearity, d_dict=config.d_dict)
    if any(isinstance(loss, KL) for loss in config.losses) and (config.kind == "crosscoder" or config.pooling != "token"):
        do = "Leave kl out."
        raise ConfigError(
            "the loss kl has no meaning here.", got=f"{config.kind} of rows per {config.pooling}", wanted="any other kind, of tokens", do=do
        )
    thins = any(isinstance(loss, Penalty) and loss.thins for loss in config.losses)
    if name in {"ReLU", "JumpReLU", "Gated"} and not thins:
        wanted = "l1 or tanh" + (", or l0" if name == "JumpReLU" else "")
        do = 'Add one, e.g. losses=(L1(coefficient=0.1),), or choose a nonlinearity that keeps k features, e.g. "topk".'
        raise ConfigError(
            f"nothing asks a {name} dictionary to be sparse.", got=", ".join(map(str, config.losses)) or "no loss", wanted=wanted, do=do
        )
