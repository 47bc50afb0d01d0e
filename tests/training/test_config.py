"""Training configs refuse what cannot be meant, and read back as they were."""

import json
import math

import pytest

from microtome.config import from_dict, to_dict
from microtome.errors import ConfigError
from microtome.training import TrainConfig
from tests.training.planted import small_config


def test_a_config_survives_json() -> None:
    config = small_config(lr=None, lr_search=(1e-3, 3e-3))
    assert from_dict(TrainConfig, json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("d_dict", 0), ("tokens", 5), ("batch_size", 0), ("lr", -1.0), ("lr_search_tokens", 0)],
        *[
            ("lr", math.inf),
            ("lr", math.nan),
            ("lr_search", (1e-3, math.inf)),
            ("encoder_norm", math.inf),
            ("coefficient", math.nan),
            ("bandwidth", 0.0),
            ("start_l0", 0.0),
        ],
        *[("warmup_share", 1.0), ("decay_share", 1.1), ("encoder_norm", 0.0), ("coefficient", -0.1), ("dead_after_tokens", 0)],
    ],
)
def test_a_value_out_of_range_is_named(field: str, value: float | tuple[float, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        small_config(**{field: value})
    assert field in str(caught.value)


def test_a_misspelt_field_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match='Did you mean "batch_size"'):
        from_dict(TrainConfig, {**to_dict(small_config()), "batchsize": 3})


def test_steps_follow_from_tokens() -> None:
    config = small_config(lr=None, lr_search=(1e-3, 2e-3), lr_search_tokens=1000)
    assert (config.steps, config.search_steps) == (60, 7)
    assert small_config().search_steps == 0
