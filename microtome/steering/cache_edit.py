"""Edits of the key-value cache: made once, after the prompt was read; nothing runs at later tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from microtome.errors import EditInvalid, ShapeMismatch, SiteNotFound
from microtome.models import Model, Site
from microtome.shapes import Tensor
from microtome.steering.along import refuse_unit
from microtome.steering.component import Workshop
from microtome.steering.edit import Change, Edit, registered
from microtome.steering.layout import Prompt, row_of
from microtome.steering.strength import Strength, raw
from microtome.steering.where import Where, Window


@registered("kv")
@dataclass(frozen=True, kw_only=True)
class KVEdit(Edit):
    """Adds to the cached keys and values of prompt tokens of one layer, once ("KV cache steering", 2507.08799: the last prompt token, c_v ≈ 10).

    The cache is as the model keeps it: keys after the rotary embedding. The first generated token was decided before; all later ones read the
    changed cache. Without a cache there is nothing to change, which raises `EditInvalid`.
    """

    kind: ClassVar[str] = "kv"

    layer: int
    keys: tuple[float, ...] | None = None
    """All key heads of the layer side by side."""
    values: tuple[float, ...] | None = None
    """All value heads of the layer side by side."""
    key_strength: Strength = field(default_factory=lambda: raw(1))
    value_strength: Strength = field(default_factory=lambda: raw(1))
    where: Where = field(default_factory=lambda: Where(positions=(Window(start=-1),)))

    def __post_init__(self) -> None:
        super().__post_init__()
        for strength in (self.key_strength, self.value_strength):
            refuse_unit("KVEdit", strength, allowed=("raw",))
        if self.keys is None and self.values is None:
            raise EditInvalid("a KV edit changes nothing.", got="neither keys nor values", wanted="at least one", do="Give keys or values.")
        if not all(bool(torch.tensor(vector).isfinite().all()) for vector in (self.keys or (), self.values or ())):
            raise EditInvalid("a KV edit holds values that are not finite.", got="NaN or infinity", wanted="finite numbers", do="Make it again.")

    @property
    def is_off(self) -> bool:
        of_keys = 0.0 if self.keys is None else self.key_strength.value
        of_values = 0.0 if self.values is None else self.value_strength.value
        return super().is_off or of_keys == of_values == 0

    def places(self, workshop: Workshop) -> tuple[Site, ...]:
        if not 0 <= self.layer < workshop.model.n_layers:
            wanted = f"0 to {workshop.model.n_layers - 1}"
            raise SiteNotFound(f"there is no layer {self.layer} to edit the cache of.", got=self.layer, wanted=wanted, do="Choose one of these.")
        return ()

    def prepare(self, site: Site, workshop: Workshop) -> Change:
        raise AssertionError("a KV edit has no sites")

    def change_cache(self, cache: Any, *, rows: Tensor, columns: Tensor, n_columns: int) -> None:
        """Add to the entries of these tokens; the cache holds the last of `n_columns` columns (a sliding window keeps only some)."""
        layer = cache.layers[self.layer]
        for name, vector, strength in (("keys", self.keys, self.key_strength), ("values", self.values, self.value_strength)):
            if vector is None or strength.value * self.dose == 0:
                continue
            kept: Tensor = getattr(layer, name)
            heads, length, width = kept.shape[1], kept.shape[2], kept.shape[3]
            if len(vector) != heads * width:
                do = "Take the vector from this layer of this model."
                raise ShapeMismatch(f"the {name} do not fit layer {self.layer}.", got=len(vector), wanted=f"{heads} × {width}", do=do)
            at = columns - (n_columns - length)
            inside = at >= 0
            amount = (strength.value * self.dose * torch.tensor(vector)).reshape(heads, width).to(kept)
            changed = kept.clone()
            changed[rows[inside], :, at[inside]] += amount
            setattr(layer, name, changed)


@torch.no_grad()
def kv_difference(model: Model, positive: Sequence[Prompt], *, negative: Sequence[Prompt], layer: int) -> KVEdit:
    """Mean keys and values at the last token of `positive` prompts minus those of `negative` ones, as an edit of strength 1."""
    if not positive or not negative:
        raise EditInvalid("a difference needs two sides.", got=f"{len(positive)} and {len(negative)}", wanted="prompts on both", do="Give prompts.")
    plus, minus = _last_entries(model, positive, layer=layer), _last_entries(model, negative, layer=layer)
    return KVEdit(layer=layer, keys=tuple((plus[0] - minus[0]).tolist()), values=tuple((plus[1] - minus[1]).tolist()))


def _last_entries(model: Model, prompts: Sequence[Prompt], *, layer: int) -> Tensor:
    """Mean of the last token's keys and values, `[2, heads × width]`."""
    hf: Any = model.hf
    found: list[Tensor] = []
    for prompt in prompts:
        tokens = torch.tensor([row_of(model, prompt).tokens], device=model.device)
        entry = hf(input_ids=tokens, use_cache=True).past_key_values.layers[layer]
        found.append(torch.stack([entry.keys[0, :, -1].flatten(), entry.values[0, :, -1].flatten()]).float())
    return torch.stack(found).mean(0).cpu()
