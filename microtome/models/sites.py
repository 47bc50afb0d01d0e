"""A site: a named place in a model where activations are read or written, printed `L15.resid_post`.

| kind | what is there |
|---|---|
| `embed` | the token embedding's output |
| `resid_pre` | the residual stream as the block receives it |
| `attn_in` | what the attention reads, after the norm |
| `attn_heads` | the heads' outputs side by side, before the output projection |
| `attn_out` | what the attention adds to the residual stream (after a post-norm and a multiplier where a family has one) |
| `resid_mid` | `resid_pre + attn_out`; absent where attention and MLP run in parallel |
| `mlp_in` | what the MLP reads, after the norm |
| `mlp_out` | what the MLP adds to the residual stream |
| `resid_post` | the residual stream as the block leaves it |
| `final_norm` | the last norm's output, which the unembedding reads |

Layers are 0-based blocks. Sites sort in the order in which a forward reaches them. Where activations of two models lie side by side, those of the
second are at `L15.resid_post#2`; a model itself has no such site.
"""

import re
from dataclasses import dataclass
from functools import total_ordering

from microtome.errors import SiteNotFound, nearest

KINDS = ("embed", "resid_pre", "attn_in", "attn_heads", "attn_out", "resid_mid", "mlp_in", "mlp_out", "resid_post", "final_norm")
LAYERLESS = ("embed", "final_norm")
_PRINTED = re.compile(r"(?:L(\d+)\.)?(\w+?)(?:#(\d+))?")


@total_ordering
@dataclass(frozen=True)
class Site:
    """One place: a kind and, unless it is `embed` or `final_norm`, a 0-based layer."""

    kind: str
    layer: int | None = None
    of: int = 1
    """Of which model, where several are read side by side."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SiteNotFound(f'no kind of site is called "{self.kind}".', got=self.kind, wanted=", ".join(KINDS), do=nearest(self.kind, KINDS))
        if (self.layer is None) != (self.kind in LAYERLESS) or (self.layer is not None and self.layer < 0):
            wanted = f'"{self.kind}"' if self.kind in LAYERLESS else f'"L<layer>.{self.kind}" with a layer from 0'
            raise SiteNotFound(f"the site {self.kind} with layer {self.layer} is nowhere.", got=self.layer, wanted=wanted, do="Correct the layer.")
        if self.of < 1:
            raise SiteNotFound("models side by side are counted from 1.", got=self.of, wanted="1 or more", do="Correct the number behind #.")

    @classmethod
    def parse(cls, text: str) -> "Site":
        """The site printed as `text`; `SiteNotFound` names the nearest spelling.

        >>> Site.parse("L15.resid_post")
        Site(kind='resid_post', layer=15)
        """
        match = _PRINTED.fullmatch(text)
        if match is None or (match[1] is None) != (match[2] in LAYERLESS):
            examples = [*LAYERLESS, *(f"L0.{kind}" for kind in KINDS if kind not in LAYERLESS)]
            wanted = "L<layer>.<kind>, embed or final_norm"
            raise SiteNotFound(f'"{text}" is not the name of a site.', got=text, wanted=wanted, do=nearest(text, examples))
        return cls(match[2], None if match[1] is None else int(match[1]), int(match[3] or 1))

    def to_json(self) -> str:
        return str(self)

    @classmethod
    def from_json(cls, value: object) -> "Site":
        """The inverse of `to_json`, so that configs can hold sites."""
        return cls.parse(str(value))

    def __str__(self) -> str:
        place = self.kind if self.layer is None else f"L{self.layer}.{self.kind}"
        return place if self.of == 1 else f"{place}#{self.of}"

    def __lt__(self, other: "Site") -> bool:
        return self._depth() < other._depth()

    def _depth(self) -> tuple[int, float, int]:
        layer = {"embed": -1.0, "final_norm": float("inf")}.get(self.kind)
        return (self.of, float(self.layer or 0) if layer is None else layer, KINDS.index(self.kind))
