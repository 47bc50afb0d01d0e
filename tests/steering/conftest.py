"""Every test that takes `model` runs over tiny random models of all ten families."""

import pytest
from steering.small import tiny_model

from microtome.models import TINY_FAMILIES, Model


@pytest.fixture(params=TINY_FAMILIES)
def model(request: pytest.FixtureRequest) -> Model:
    return tiny_model(request.param)


@pytest.fixture
def llama() -> Model:
    return tiny_model("llama")
