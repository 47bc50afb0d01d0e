"""The demo's steering on a small workspace: a feature is found by its word, steered beside its controls, and the report shows it."""

import re
import shutil
from pathlib import Path

import pytest

from microtome.artifacts import Workspace
from microtome.cli import demo_steer
from microtome.cli.session import Common, Session
from microtome.features import FeatureIndex, feature_named
from microtome.models import Model
from microtome.steering import load_curve
from microtome.web import write_report
from tests.web.small import INDEX


@pytest.fixture
def named(index: FeatureIndex) -> list[str]:
    """Words of the corpus by which features are named."""
    rows = index.table(filter='f1 >= 0.2 and (rule_kind = "word" or rule_kind = "token")', sort="f1", descending=True, limit=40).rows
    words = dict.fromkeys(word for row in rows for word in re.findall(r'" ?(\w+)"', row.label))
    return [word for word in words if feature_named(index, word, f1=0.2) is not None]


def test_a_feature_is_named_by_a_whole_word(index: FeatureIndex, named: list[str]) -> None:
    assert len(named) >= 2
    row = feature_named(index, named[0], f1=0.2)
    assert row is not None
    assert row.f1 >= 0.2
    assert f'{named[0]}"' in row.label
    assert feature_named(index, "zebra") is None


def test_the_curve_is_measured_once_and_stands_in_the_report(
    workspace: Path, *, model: Model, named: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = shutil.copytree(workspace, tmp_path / "workspace")
    monkeypatch.setattr(demo_steer, "CONCEPTS", {word: word for word in named})
    monkeypatch.setattr(demo_steer, "OPENINGS", ("the ship and", "salt in"))
    monkeypatch.setattr(demo_steer, "LAYERS_AWAY", -1)
    monkeypatch.setattr(demo_steer, "LEAST_F1", 0.2)
    with Session(Common(workspace=place)) as session:
        assert demo_steer.steer_a_feature(session, model, index=INDEX)
        curve = load_curve(place / "doses" / INDEX)
        assert [point.dose for point in curve.points] == list(demo_steer.DOSES)
        for point in curve.points:
            assert set(point.controls) == {"random", "wrong_concept", "wrong_layer", "prompt"} == set(curve.controls)
        assert curve.points[0].effect.value == 0
        assert curve.points[-1].edited_tokens > 0
        written = (place / "doses" / INDEX / "doses.json").stat().st_mtime_ns
        assert demo_steer.steer_a_feature(session, model, index=INDEX)
        assert (place / "doses" / INDEX / "doses.json").stat().st_mtime_ns == written
    report = write_report(Workspace(place), tmp_path / "report.html", n_cards=2).read_text()
    assert "Does it do what it says?" in report
    assert "a prompt that asks" in report
    monkeypatch.setattr(demo_steer, "CONCEPTS", {"zebra": "zebra"})
    shutil.rmtree(place / "doses")
    with Session(Common(workspace=place)) as session:
        assert not demo_steer.steer_a_feature(session, model, index=INDEX)
