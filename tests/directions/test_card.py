"""What was measured of a direction stays with it, and its card says what is known of it."""

from pathlib import Path

import pytest
import torch

from microtome.artifacts import Workspace
from microtome.directions import Direction, Measured, direction_card, load_measured, save_direction
from microtome.errors import ArtifactDamaged, ArtifactMissing
from microtome.models import Site
from microtome.stats import Result

MEASURED = Measured(
    results=(Result(name="auc", value=0.75, low=0.4, high=0.9, n=12, baselines={"shuffled": 0.6, "p": 0.5}),),
    together=(Result(name="recognised", value=0.5, n=40),),
    notes=("A probe that reads a property does not show that the model uses it.",),
    raises=(" sea", "\n"),
    lowers=(" hill",),
    more={"losses": [0.5, 0.25], "roles": [{"role": "pirate", "coordinate": -1.5}]},
)


def direction(vector: list[float], *, name: str = "sea", model: str | None = "m") -> Direction:
    return Direction(name=name, site=Site("resid_post", 1), vector=torch.tensor(vector, dtype=torch.float32), sign="towards the sea", model=model)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def keep(workspace: Workspace, name: str, made: Direction, *, measured: Measured | None = None) -> Path:
    save_direction(made, workspace.place("direction", name), measured=measured)
    return workspace.place("direction", name)


def test_what_was_measured_comes_back_as_it_was(workspace: Workspace) -> None:
    path = keep(workspace, "sea", direction([1, 0]), measured=MEASURED)
    assert load_measured(path) == MEASURED
    assert load_measured(keep(workspace, "plain", direction([1, 0]))) is None


def test_what_has_no_json_leaves_what_was_there(workspace: Workspace) -> None:
    path = keep(workspace, "sea", direction([1, 0]), measured=MEASURED)
    with pytest.raises(ValueError, match="JSON"):
        save_direction(direction([1, 0]), path, measured=Measured(more={"kl": float("nan")}), replace=True)
    assert load_measured(path) == MEASURED


def test_a_changed_measurement_is_noticed(workspace: Workspace) -> None:
    file = keep(workspace, "sea", direction([1, 0]), measured=MEASURED) / "measured.json"
    file.write_text(file.read_text().replace("0.75", "0.95"))
    with pytest.raises(ArtifactDamaged):
        load_measured(file.parent)


def test_a_card_compares_with_the_directions_of_the_same_model_and_width(workspace: Workspace) -> None:
    path = keep(workspace, "sea", direction([3, 4]), measured=MEASURED)
    keep(workspace, "near", direction([4, 3], name="near"))
    keep(workspace, "against", direction([-3, -4], name="against"))
    keep(workspace, "across", direction([4, -3], name="across"))
    keep(workspace, "of-another", direction([3, 4], model="other"))
    keep(workspace, "wider", direction([3, 4, 0]))
    (keep(workspace, "broken", direction([3, 4])) / "direction.safetensors").write_bytes(b"no")
    card = direction_card(path, workspace=workspace)
    assert (card.name, card.title, card.site, card.norm, card.width) == ("sea", "sea", "L1.resid_post", 5.0, 2)
    assert card.measured == MEASURED
    assert [(other.name, round(other.cosine, 6)) for other in card.others] == [("against", -1.0), ("near", 0.96), ("across", 0.0)]
    assert direction_card(path).others == ()


def test_a_card_of_nothing_is_an_error(workspace: Workspace) -> None:
    with pytest.raises(ArtifactMissing):
        direction_card(workspace.place("direction", "none"), workspace=workspace)
