"""Questions with texts over HTTP: the same answers as the Python calls, by link and by body."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from microtome.features import FeatureIndex
from microtome.features.odd import odd_report
from microtome.models import Model
from tests.web.answers import WRITE, ran, said
from tests.web.small import INDEX

SEA, KITCHEN = ["the ship and the storm", "wave sail harbour"], ["the bread and the knife", "salt oven butter"]


def both(client: TestClient, path: str, *, query: dict[str, Any], body: dict[str, Any]) -> Any:
    """What a link and a body say, which is the same."""
    by_link = client.get(f"/api/s/{INDEX}{path}", params=query)
    by_body = client.post(f"/api/s/{INDEX}{path}", json=body, headers=WRITE)
    assert (by_link.status_code, by_body.status_code) == (200, 200), by_link.text + by_body.text
    one, other = by_link.json(), by_body.json()
    assert one.pop("reproduce")["python"] == other.pop("reproduce")["python"]
    assert one == other
    return one


def test_prompts_on_a_feature(client: TestClient, index: FeatureIndex, model: Model) -> None:
    found = both(client, "/f/3/tests", query={"text": SEA}, body={"texts": SEA})
    assert found == said(index.test_all(model, 3, texts=SEA))


def test_features_by_prompts(client: TestClient, index: FeatureIndex, model: Model) -> None:
    options: dict[str, Any] = {"negative": KITCHEN, "misses": 1, "allow": 0.25, "rank": "share"}
    found = both(client, "/prompts", query={"positive": SEA, **options}, body={"positive": SEA, **options})
    assert found == said(index.by_prompts(model, SEA, **options))


def test_features_by_two_sets(client: TestClient, index: FeatureIndex, model: Model) -> None:
    options: dict[str, Any] = {"negative": KITCHEN, "pool": "mean", "seed": 2}
    found = both(client, "/separate", query={"positive": SEA, **options}, body={"positive": SEA, **options})
    assert found == said(index.separate(model, SEA, **options))


def test_features_by_a_token_and_the_odd_ones_need_no_model(client: TestClient, index: FeatureIndex) -> None:
    token = client.get(f"/api/s/{INDEX}/token", params={"text": "the", "spellings": True}).json()
    assert "load(" not in token.pop("reproduce")["python"]
    assert token == said(index.by_token("the", spellings=True))
    odd = client.get(f"/api/s/{INDEX}/odd").json()
    lines = odd.pop("reproduce")
    assert lines["shell"].startswith(f"microtome odd {INDEX} ")
    assert odd == said(odd_report(index))
    assert said(ran(lines["python"])) == odd


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/prompts", {}),
        ("/prompts", {"positive": [""]}),
        ("/prompts", {"positive": SEA, "rank": "count"}),
        ("/separate", {"positive": SEA, "negative": KITCHEN[:1]}),
        ("/separate", {"positive": SEA, "negative": KITCHEN, "pool": "median"}),
        ("/token", {"text": "no token is this long, surely"}),
        ("/f/3/tests", {"text": ["a"] * 201}),
        ("/f/3/tests", {"text": ["a", ""]}),
    ],
)
def test_what_cannot_be_asked_is_said(client: TestClient, path: str, query: dict[str, Any]) -> None:
    answer = client.get(f"/api/s/{INDEX}{path}", params=query)
    assert (answer.status_code, answer.json()["error"]) == (422, "QueryInvalid")
    assert answer.json()["do"]
