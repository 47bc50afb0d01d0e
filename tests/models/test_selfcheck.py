from typing import Any

import pytest
import torch

from microtome.errors import SelfCheckFailed
from microtome.models import Model, Site, selfcheck, tiny
from microtome.models.discover import Place
from microtome.models.tap import Taps


def failing(model: Model, *, thorough: bool = True) -> list[str]:
    return [row.name for row in selfcheck(model, thorough=thorough).rows if not row.ok]


def test_every_family_passes(model: Model):
    report = selfcheck(model)
    assert report.ok
    assert len(report.rows) == 10
    report.raise_if_failed()


def test_a_site_at_the_wrong_place_is_found_out():
    model = tiny("llama")
    places: dict[Site, Place] = dict(model._map.places)
    places[Site("mlp_out", 1)] = places[Site("attn_out", 1)]
    model._taps = Taps(places)
    assert "residual = sum of parts, relative to the largest" in failing(model, thorough=False)
    with pytest.raises(SelfCheckFailed, match="tiny:llama") as caught:
        selfcheck(model, thorough=False).raise_if_failed()
    assert "sum of parts" in str(caught.value.got)


def test_a_model_that_looks_ahead_is_found_out():
    """Attention that is not causal lets a later token change earlier positions."""
    model = tiny("llama")
    for block in model.hf.get_submodule("model.layers").children():
        attention: Any = block.get_submodule("self_attn")
        attention.register_forward_hook(lambda _, __, out: (out[0] + out[0].mean(1, keepdim=True), *out[1:]))
    assert "a later token changes no earlier position, relative" in failing(model)


def test_a_layer_that_gives_nan_is_found_out():
    model = tiny("gpt2")
    weight: Any = model.hf.get_submodule("transformer.h.1.mlp.c_proj").weight
    weight.data[0, 0] = torch.nan
    assert "values are finite (share that is not)" in failing(model, thorough=False)


def test_an_edit_that_never_arrives_is_found_out():
    model = tiny("qwen2")
    tap = model.tap
    model.tap = lambda read=(), edit=None: tap(read=read)  # type: ignore[method-assign]  # a model whose edits get lost
    assert "an edit of the last residual reaches the logits (1 if it does not)" in failing(model)


def test_comparisons_ask_no_float64_of_a_device_that_has_none(monkeypatch: pytest.MonkeyPatch):
    """Apple's GPU refuses float64, so what becomes float64 must have been brought to the CPU first."""
    brought: set[int] = set()
    kept: list[torch.Tensor] = []
    cpu, double = torch.Tensor.cpu, torch.Tensor.double

    def to_cpu(x: torch.Tensor) -> torch.Tensor:
        there = cpu(x).clone()
        kept.append(there)  # or another tensor could get its id
        brought.add(id(there))
        return there

    def to_double(x: torch.Tensor) -> torch.Tensor:
        if id(x) not in brought:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")
        return double(x)

    monkeypatch.setattr(torch.Tensor, "cpu", to_cpu)
    monkeypatch.setattr(torch.Tensor, "double", to_double)
    assert selfcheck(tiny("gpt_neox")).ok
    assert kept
