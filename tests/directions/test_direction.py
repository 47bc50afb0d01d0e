import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from microtome.config import canonical_json
from microtome.directions import Direction, load_direction, save_direction
from microtome.errors import ArtifactForeign, ConfigError, DirectionForeign, DirectionInvalid, ShapeMismatch, SiteNotFound, ZeroDirection
from microtome.models import Site, tiny

SITE = Site("resid_post", 1)


def direction(vector: torch.Tensor | None = None) -> Direction:
    chosen = torch.linspace(-1, 2, 32) if vector is None else vector
    return Direction(name="formal", site=SITE, vector=chosen, sign="towards formal speech", provenance={"recipe": "by hand", "n": 3})


def test_json_both_ways_loses_nothing():
    made = direction(torch.randn(32, generator=torch.Generator().manual_seed(0))).calibrated(torch.arange(50.0), source="wiki")
    read = Direction.from_json(json.loads(canonical_json(made)))
    assert read == made
    assert hash(read) == hash(made)
    assert torch.equal(read.vector, made.vector)


def test_a_list_of_numbers_is_read():
    assert Direction.from_json({"name": "x", "site": "L1.resid_post", "vector": [3, 4]}).norm == 5


def test_another_bit_is_another_direction():
    one = direction()
    other = replace(one, vector=one.vector.nextafter(torch.tensor(9.0)))
    assert one != other
    assert one.fingerprint != other.fingerprint


def test_the_projection_is_the_coordinate_along_the_unit_vector():
    made = direction(torch.tensor([3.0, 4.0]))
    assert made.project(torch.tensor([[3.0, 4.0], [4.0, -3.0]])).tolist() == [5.0, 0.0]
    torch.testing.assert_close(made.unit_vector, torch.tensor([0.6, 0.8]))


def test_turning_twice_is_not_turning():
    made = direction().calibrated(torch.arange(11.0), source="wiki")
    turned = made.negated()
    assert torch.equal(turned.vector, -made.vector)
    assert turned.sign == "not towards formal speech"
    assert turned.negated() == made


def test_storage_loses_nothing(tmp_path: Path):
    made = direction().calibrated(torch.randn(200, generator=torch.Generator().manual_seed(1)), source="wiki")
    artifact = save_direction(made, tmp_path / "formal")
    assert artifact.manifest.kind == "direction"
    assert load_direction(tmp_path / "formal") == made
    artifact_of_other_kind = tmp_path / "formal" / "manifest.json"
    assert json.loads(artifact_of_other_kind.read_text())["summary"]["width"] == 32


def test_an_artifact_of_another_kind_is_refused(tmp_path: Path):
    from microtome.artifacts import Draft

    with Draft.open(tmp_path / "corpus", "corpus", config={}, inputs={}) as draft:
        draft.write("x", "x")
        draft.finish()
    with pytest.raises(ArtifactForeign):
        load_direction(tmp_path / "corpus")


@pytest.mark.parametrize("vector", [torch.tensor([1.0, float("nan")]), torch.tensor([1.0, float("inf")])], ids=["nan", "inf"])
def test_a_vector_that_is_not_finite_is_refused(vector: torch.Tensor):
    with pytest.raises(DirectionInvalid, match="formal"):
        direction(vector)


def test_a_vector_of_zeros_is_refused():
    with pytest.raises(ZeroDirection, match="length 0"):
        direction(torch.zeros(4))


@pytest.mark.parametrize("vector", ["%%%", [1, "x"], {"a": 1}, "AAA="], ids=["no base64", "words", "object", "half a number"])
def test_json_that_holds_no_vector_is_refused(vector: object):
    with pytest.raises(DirectionInvalid):
        Direction.from_json({"name": "x", "site": "L1.resid_post", "vector": vector})


def test_a_misspelt_field_names_the_nearest():
    with pytest.raises(ConfigError) as caught:
        Direction.from_json({"nme": "x", "site": "L1.resid_post", "vector": [1.0]})
    assert "name" in caught.value.do


def test_it_fits_only_its_model_at_sites_of_its_width():
    model = tiny("llama")
    direction().fits(model)
    replace(direction(), model=model.fingerprint).fits(model)
    with pytest.raises(DirectionForeign):
        replace(direction(), model="0" * 16).fits(model)
    with pytest.raises(ShapeMismatch):
        direction(torch.ones(31)).fits(model)
    with pytest.raises(SiteNotFound, match="L9"):
        replace(direction(), site=Site("resid_post", 9)).fits(model)
