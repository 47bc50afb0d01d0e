"""The JSON twins of what people keep, of the map, of dreams and of the dense subspace: what they say is what Python says."""

import csv
import io

from fastapi.testclient import TestClient

from microtome.features import FeatureIndex, kept_csv
from microtome.features.dreaming import DreamConfig, dream, dreams_of, feature_target
from microtome.features.geometry import MapConfig, make_map, map_of
from microtome.features.odd import dense_ablation
from microtome.models import Model
from tests.web.answers import WRITE, asked, ran, said
from tests.web.small import INDEX

ROOT = f"/api/s/{INDEX}"


def test_lists_and_verdicts_are_written_and_read_back(client: TestClient, index: FeatureIndex) -> None:
    assert client.post(f"{ROOT}/lists", json={"name": "seas", "add": [3, 4]}).status_code == 403, "a write needs the header"
    lists = client.post(f"{ROOT}/lists", json={"name": "seas", "add": [3, 4]}, headers=WRITE).json()["lists"]
    assert {"name": "seas", "size": 2} in lists
    assert client.post(f"{ROOT}/f/4/verdict", json={"verdict": "holds"}, headers=WRITE).json() == {"verdict": "holds"}
    assert asked(client, f"{ROOT}/select?filter=list+%3D+seas") == {"features": [3, 4]}
    assert asked(client, f"{ROOT}/features?filter=verdict+%3D+holds")["rows"][0]["feature"] == 4
    assert asked(client, f"{ROOT}/kept") == said(index.kept())
    table = client.get(f"{ROOT}/kept.csv")
    assert table.text == kept_csv(index.kept())
    assert {row["feature"]: row["lists"] for row in csv.DictReader(io.StringIO(table.text))}["3"] == "seas"
    lines = client.get(f"{ROOT}/kept").json()["reproduce"]["python"]
    assert said(ran(lines)) == said(index.kept())
    for path, body in (
        ("lists", {"name": "  "}),
        ("lists", {"name": "seas", "add": [10**6]}),
        ("lists", {"name": "sea", "remove": [3]}),
        ("lists", {"name": "sea", "drop": True}),
        ("f/4/verdict", {"verdict": "fine"}),
    ):
        answer = client.post(f"{ROOT}/{path}", json=body, headers=WRITE)
        assert answer.status_code in (404, 422)
        assert {"what", "got", "wanted", "do"} <= set(answer.json())
    client.post(f"{ROOT}/lists", json={"name": "seas", "drop": True}, headers=WRITE)
    client.post(f"{ROOT}/f/4/verdict", json={"verdict": ""}, headers=WRITE)
    assert asked(client, f"{ROOT}/select?filter=list+%3D+seas") == {"features": []}


def test_the_map_is_the_artifact_and_without_one_the_command_is_said(client: TestClient, index: FeatureIndex) -> None:
    if map_of(index.store) is None:
        answer = client.get(f"{ROOT}/map").json()
        assert answer["map"] is None
        assert answer["command"].startswith("microtome map small")
    drawn = make_map(index, config=MapConfig(min_cluster=3))
    assert asked(client, f"{ROOT}/map") == said(drawn.view(index))
    lines = client.get(f"{ROOT}/map").json()["reproduce"]["python"]
    assert said(ran(lines)) == said(drawn.view(index))
    etag = client.get(f"{ROOT}/map").headers["etag"]
    assert client.get(f"{ROOT}/map", headers={"if-none-match": etag}).status_code == 304


def test_dreams_of_a_feature_are_shown_from_the_workspace(client: TestClient, index: FeatureIndex, model: Model) -> None:
    feature = index.table(sort="density", descending=True, limit=1).rows[0].feature
    assert asked(client, f"{ROOT}/f/{feature}/dreams")["dreams"] == []
    config = DreamConfig(length=3, iterations=2, population=2, children=2, corpus_texts=8)
    out = index.store.workspace.place("dream", "one")
    made = dream(index, model, target=feature_target(index, feature), config=config, out=out)
    (index.store.workspace.path / "dreams" / "broken").mkdir()
    found = asked(client, f"{ROOT}/f/{feature}/dreams")["dreams"]
    assert found == said(dreams_of(index, feature))
    assert (found[0]["name"], found[0]["is_finished"], found[0]["dream"]) == ("one", True, said(made))
    assert asked(client, f"{ROOT}/f/{feature + 1}/dreams")["dreams"] == []


def test_the_dense_subspace_is_taken_out_once(client: TestClient, index: FeatureIndex) -> None:
    assert asked(client, f"{ROOT}/odd/ablation") == {"ablation": None}
    measured = client.post(f"{ROOT}/odd/ablation", json={}, headers=WRITE).json()["ablation"]
    assert measured == said(dense_ablation(index))
    assert asked(client, f"{ROOT}/odd/ablation")["ablation"] == measured
    answer = client.get(f"{ROOT}/odd/stability/{INDEX}")
    assert answer.status_code == 422
    assert "beside itself" in answer.json()["what"]
