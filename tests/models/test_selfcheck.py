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
    model._taps = Taps({})
    model.tap = lambda **_: model._taps.tap(read=[], edit={})  # type: ignore[method-assign]  # a model whose hooks are dead
    with pytest.raises(KeyError):
        selfcheck(model)
