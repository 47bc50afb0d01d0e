"""The neurons of an MLP as a dictionary: all of them together are the MLP, for every family whose MLP is a sum of neurons."""

import pytest
import torch

from microtome.dictionaries import Neurons, neurons
from microtome.errors import DictionaryInvalid, ModelUnsupported, SiteNotFound
from microtome.models import Site
from microtome.testing import check_dictionary, tiny
from tests.dictionaries.kinds import draw

PLAIN = ["llama", "mistral", "qwen2", "qwen3", "gpt2", "gpt_neox", "phi3"]


@pytest.mark.parametrize("family", PLAIN)
def test_all_neurons_together_are_the_mlp(family: str) -> None:
    model = tiny(family)
    reads, writes = Site("mlp_in", 1), Site("mlp_out", 1)
    tokens = torch.arange(20)[None]
    seen = model.capture(tokens, [reads, writes])
    every = neurons(model, 1, k=10_000)
    torch.testing.assert_close(every.reconstruct(seen[reads][0]), seen[writes][0], rtol=1e-4, atol=1e-5)
    few = neurons(model, 1, k=8)
    assert few.encode(seen[reads][0]).indices.shape == (20, 8)
    assert (few.reads, few.writes) == (reads, (writes,))
    check_dictionary(few, rows=seen[reads][0])


@pytest.mark.parametrize("family", ["gemma2", "gemma3", "olmo2"])
def test_a_norm_after_the_mlp_is_refused(family: str) -> None:
    with pytest.raises(ModelUnsupported, match="sum over its neurons"):
        neurons(tiny(family), 0, k=4)


def test_the_neurons_kept_are_those_that_write_most() -> None:
    every, few = neurons(tiny("llama"), 0, k=10_000), neurons(tiny("llama"), 0, k=3)
    x = draw(10, every.d_in, seed=0)
    codes = every.encode(x)
    sizes = torch.zeros(10, every.d_dict).scatter(1, codes.indices, codes.values.abs()) * every.directions().norm(dim=1)
    expected = sizes.topk(3).indices.sort().values
    assert torch.equal(few.encode(x).indices.sort().values, expected)


def test_what_does_not_fit_is_named() -> None:
    made = neurons(tiny("llama"), 0, k=4)
    with pytest.raises(SiteNotFound):
        neurons(tiny("llama"), 9, k=4)
    with pytest.raises(DictionaryInvalid, match="activation function"):
        Neurons(reads=made.reads, writes=made.writes[0], activation="swish", k=4, weights=made.weights())
    without = {name: weight for name, weight in made.weights().items() if name != "b_up"}
    with pytest.raises(DictionaryInvalid, match="come together"):
        Neurons(reads=made.reads, writes=made.writes[0], activation="silu", k=4, weights=without)
