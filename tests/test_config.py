"""Configs are read strictly and written back the same."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from microtome.config import canonical_json, fingerprint, from_dict, to_dict
from microtome.errors import ConfigError


@dataclass(frozen=True)
class Place:
    """A value type that is printed as one string."""

    layer: int

    def to_json(self) -> str:
        return f"L{self.layer}"

    @classmethod
    def from_json(cls, text: str) -> "Place":
        return cls(int(text[1:]))


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Config:
    places: tuple[Place, ...]
    steps: int = 3
    rate: float | None = None
    init: Literal["mean", "median"] = "mean"
    inner: Inner = field(default_factory=Inner)


def test_round_trip_is_exact() -> None:
    config = Config(places=(Place(1), Place(2)), rate=0.1, inner=Inner(rate=2.0))
    assert to_dict(config) == {"places": ["L1", "L2"], "steps": 3, "rate": 0.1, "init": "mean", "inner": {"rate": 2.0}}
    assert from_dict(Config, to_dict(config)) == config


def test_misspelt_field_names_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        from_dict(Config, {"places": [], "step": 4})
    assert 'Config has no field "step"' in str(caught.value)
    assert 'Did you mean "steps"?' in str(caught.value)


def test_nested_misspelling_says_where() -> None:
    with pytest.raises(ConfigError, match=r'Config\.inner has no field "rat"'):
        from_dict(Config, {"places": [], "inner": {"rat": 1.0}})


def test_missing_field_is_named() -> None:
    with pytest.raises(ConfigError, match='lacks the field "places"'):
        from_dict(Config, {})


@pytest.mark.parametrize(
    "values", [{"steps": "3"}, {"steps": True}, {"steps": 1.5}, {"rate": "x"}, {"init": "meen"}, {"places": "L1"}, {"inner": 3}, {"steps": None}]
)
def test_wrong_types_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"Config\."):
        from_dict(Config, {"places": []} | values)


def test_whole_numbers_serve_as_floats() -> None:
    assert from_dict(Config, {"places": [], "rate": 1}).rate == 1.0


def test_fingerprint_ignores_key_order_and_sees_every_value() -> None:
    assert fingerprint({"a": 1, "b": (2, 3)}) == fingerprint({"b": [2, 3], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert canonical_json({"b": "é", "a": None}) == '{"a":null,"b":"é"}'
    with pytest.raises(ValueError, match="Out of range"):
        canonical_json(float("nan"))
