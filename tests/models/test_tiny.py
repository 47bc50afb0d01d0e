import pytest
import torch

from microtome.errors import ModelNotFound
from microtome.models import TINY_FAMILIES, Model, selfcheck, tiny


def test_the_same_arguments_give_the_same_weights(model: Model):
    family = str(model.ref).removeprefix("tiny:").removesuffix("@0")
    again = tiny(family).hf.state_dict()
    assert all(torch.equal(again[name], weight) for name, weight in model.hf.state_dict().items())


def test_making_one_leaves_the_global_random_state_alone():
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    tiny("llama", seed=9)
    assert torch.equal(torch.rand(1), wanted)


def test_no_gain_is_trivial(model: Model):
    norms = [weight for name, weight in model.hf.named_parameters() if "norm" in name and weight.ndim == 1]
    assert all(weight.std() > 0.01 for weight in norms)


def test_size_and_dtype_are_arguments():
    model = tiny("qwen3", n_layers=2, d_model=48, dtype=torch.bfloat16)
    assert (model.n_layers, model.d_model, model.dtype) == (2, 48, torch.bfloat16)
    assert selfcheck(model).ok


def test_an_unknown_family_names_the_nearest():
    with pytest.raises(ModelNotFound, match="gemma3") as caught:
        tiny("gema3")
    assert "gemma3" in caught.value.do
    assert len(TINY_FAMILIES) == 10
