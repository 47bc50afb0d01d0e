"""The panels of a feature's page: each has a JSON twin that equals the Python call."""

from pathlib import Path

from fastapi.testclient import TestClient

from microtome.features import FeatureIndex
from tests.web.answers import WRITE, asked, ran, said
from tests.web.small import INDEX

F = f"/api/s/{INDEX}/f/3"


def test_every_panel_has_a_twin_that_equals_the_python_call(client: TestClient, index: FeatureIndex) -> None:
    links = {"downstream": said(index.downstream(3, rank="era", limit=5)), "upstream": said(index.upstream(3, rank="era", limit=5))}
    assert asked(client, f"{F}/links?rank=era&limit=5") == links
    assert asked(client, f"{F}/alike?limit=4") == said(index.alike(3, limit=4))
    assert asked(client, f"{F}/coactive?rank=pmi&at_least=2&limit=4")["coactive"] == said(index.coactive(3, rank="pmi", at_least=2, limit=4))
    assert asked(client, f"{F}/suspects")["suspects"] == said(index.suspects(3, limit=12))
    assert asked(client, f"{F}/across") == said(index.across(3))
    assert asked(client, f"{F}/match/{INDEX}?limit=3") == said(index.match(3, index, limit=3))
    assert asked(client, f"{F}/around") == said(index.surroundings(3))
    assert asked(client, f"{F}/loss")["loss"] is None
    label = "sea"
    examples = said(index.examples(3, corpus_label=label, limit=4))
    assert asked(client, f"{F}/examples?corpus_label={label}&limit=4")["examples"] == examples
    assert all(window["corpus_label"] == label for window in examples)


def test_the_python_lines_of_the_panels_run(client: TestClient) -> None:
    for panel in ("links", "alike", "coactive", "suspects", "across", f"match/{INDEX}", "around", "loss", "effects"):
        content = client.get(f"{F}/{panel}").json()
        content.pop("command", None)
        answer = said(ran(content.pop("reproduce")["python"]))
        alone = next(iter(content.values())) if len(content) == 1 else content
        assert answer == alone, panel


def test_the_commands_that_panels_show_name_the_workspace(client: TestClient, workspace: Path) -> None:
    for panel, words in (("loss", f"index {INDEX} --losses"), ("effects", f"index {INDEX} --effects 200"), ("dreams", f"dream {INDEX} 3")):
        assert asked(client, f"{F}/{panel}")["command"] == f"microtome {words} --workspace {workspace}"


def test_an_effect_is_measured_on_demand_and_kept(client: TestClient, index: FeatureIndex) -> None:
    feature = int(index.store.rows.numbers["documents"].argmax())
    path = f"/api/s/{INDEX}/f/{feature}/effects"
    assert asked(client, path)["effects"] is None
    assert client.post(path, json={}).status_code == 403
    made = client.post(path, json={}, headers=WRITE).json()
    assert made["effects"]["n"] > 0
    assert "model = load(" in made["reproduce"]["python"]
    assert asked(client, path)["effects"] == made["effects"] == said(index.effects(feature))


def test_silenced_features_run_the_model(client: TestClient) -> None:
    found = client.get(f"{F}/silenced?sample=4").json()
    assert (found["n_reached"], found["would_suppress"]) == (0, [])
    assert "model = load(" in found["reproduce"]["python"]


def test_many_cards_come_at_once_and_anything_else_is_refused(client: TestClient, index: FeatureIndex) -> None:
    assert asked(client, f"/api/s/{INDEX}/cards?features=5,1,2")["cards"] == [said(index.card(feature)) for feature in (5, 1, 2)]
    for wrong in ("", "1,x", ",".join(["1"] * 201), "-1"):
        answer = client.get(f"/api/s/{INDEX}/cards", params={"features": wrong})
        assert (answer.status_code, answer.json()["error"]) == (422, "QueryInvalid")
