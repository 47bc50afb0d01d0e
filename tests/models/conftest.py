"""Every test that takes `model` runs over tiny random models of all ten families."""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel

from microtome.models import TINY_FAMILIES, Model, tiny


@cache
def _tiny(family: str) -> Model:
    return tiny(family)


@pytest.fixture(params=TINY_FAMILIES)
def model(request: pytest.FixtureRequest) -> Model:
    return _tiny(request.param)


@pytest.fixture
def tokens(model: Model) -> torch.Tensor:
    """Two rows of 20 tokens, longer than the sliding windows of the families that have one."""
    rows = torch.Generator().manual_seed(1)
    return torch.randint(3, 300, (2, 20), generator=rows)


RandomModel: TypeAlias = Callable[..., PreTrainedModel]


@pytest.fixture
def random_model() -> RandomModel:
    """Makes a random Hugging Face model of any family: `random_model("bloom", n_layer=2, …)`."""

    def make(family: str, **config: Any) -> PreTrainedModel:
        torch.manual_seed(0)
        settings: Any = CONFIG_MAPPING[family]
        hf = AutoModelForCausalLM.from_config(settings(vocab_size=384, **config), dtype=torch.float32)
        return hf.eval().requires_grad_(False)

    return make
