"""How a map is drawn."""

from dataclasses import dataclass
from typing import Literal

from microtome.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class MapConfig:
    """Settings of a map; the same ones on the same index give the same map."""

    layout: Literal["tsne", "pca"] = "tsne"
    """`tsne` keeps neighbours together, `pca` is linear and takes a second."""
    perplexity: float = 30.0
    """About how many neighbours count, for `tsne`."""
    iterations: int = 500
    """Of `tsne`, after the first 250."""
    min_cluster: int = 0
    """Fewest features of a cluster; 0 takes a thousandth of all, at least 8."""
    min_samples: int = 4
    """How dense it must be around a core of a cluster: more leaves more features outside of all."""
    seed: int = 0

    def __post_init__(self) -> None:
        wrong = [name for name in ("perplexity", "iterations", "min_samples") if getattr(self, name) < 1]
        wrong += [name for name in ("min_cluster",) if getattr(self, name) < 0]
        if wrong:
            got = ", ".join(f"{name} {getattr(self, name)}" for name in wrong)
            raise ConfigError("MapConfig cannot be drawn.", got=got, wanted="positive numbers", do="Correct it.")
