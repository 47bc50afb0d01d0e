"""The JSON twins say what the feature index says, and errors keep their four parts."""

import json
import shlex
import sqlite3
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from microtome.features import FeatureIndex
from microtome.models import Model
from microtome.progress import Progress
from microtome.web import create_app
from tests.web.answers import WRITE, asked, ran, said
from tests.web.serving import serving
from tests.web.small import D_DICT, EMOJI, INDEX, SCRIPT


def test_every_page_has_a_twin_that_equals_the_python_call(client: TestClient, index: FeatureIndex) -> None:
    assert asked(client, f"/api/s/{INDEX}") == said(index.overview())
    assert asked(client, f"/api/s/{INDEX}/f/3") == said(index.card(3))
    assert asked(client, f"/api/s/{INDEX}/documents?search=sea&limit=5") == said(index.documents(search="sea", limit=5))
    assert asked(client, f"/api/s/{INDEX}/d/2?rank=max&offset=3&length=9") == said(index.document(2, rank="max", offset=3, length=9))
    assert asked(client, f"/api/s/{INDEX}/f/3/examples?split=test&limit=4")["examples"] == said(index.examples(3, split="test", limit=4))
    assert asked(client, f"/api/s/{INDEX}/d/2/t/4") == said(index.token(2, offset=4))
    table = index.table(sort="density", descending=True, filter="density > 1%", limit=7)
    assert asked(client, f"/api/s/{INDEX}/features?sort=density&descending=true&filter=density+%3E+1%25&limit=7") == said(table)


def test_the_model_answers_the_same_by_link_and_by_text(client: TestClient, index: FeatureIndex, model: Model) -> None:
    text = "the ship and " + EMOJI
    wanted = said(index.search(model, text, rank="max", limit=9))
    by_link = client.get(f"/api/s/{INDEX}/search", params={"text": text, "rank": "max", "limit": 9}).json()
    by_text = client.post(f"/api/s/{INDEX}/search", json={"text": text, "rank": "max", "limit": 9}, headers=WRITE).json()
    assert by_link.pop("reproduce")["python"] == by_text.pop("reproduce")["python"]
    assert by_link == by_text == wanted
    assert "".join(wanted["pieces"]) == text

    tested = client.post(f"/api/s/{INDEX}/f/3/test", json={"text": text}, headers=WRITE).json()
    tested.pop("reproduce")
    assert tested == said(index.test(model, 3, text=text))
    assert client.get(f"/api/s/{INDEX}/model").json()["state"] == "ready"


def test_the_python_line_of_a_page_runs_and_gives_the_page(client: TestClient) -> None:
    content = client.get(f"/api/s/{INDEX}/features", params={"filter": 'label ~ "the"', "limit": 3}).json()
    assert said(ran(content.pop("reproduce")["python"])) == content


def test_only_questions_to_the_model_load_it(client: TestClient) -> None:
    def python(path: str) -> str:
        return client.get(f"/api/s/{INDEX}{path}").json()["reproduce"]["python"]

    assert "load(" not in python("/features?filter=label+~+%22model%22")
    assert "model = load(" in python("/search?text=the")
    assert "model = load(" in python("/f/3/test?text=the")


def test_the_shell_line_of_a_page_can_be_pasted(workspace: Path, tmp_path: Path, model: Model) -> None:
    place = tmp_path / "my own files"
    place.symlink_to(workspace)
    client = TestClient(create_app(place, token="secret-word", model_loader=lambda ref, progress: model), base_url="http://192.0.2.7:8765")
    client.get("/?token=secret-word")

    def shell(path: str) -> str:
        return client.get(path).json()["reproduce"]["shell"]

    assert shlex.split(shell("/api"))[:4] == ["microtome", "show", "--workspace", str(place)]
    line = shell(f"/api/s/{INDEX}/features?filter=label+~+%22a%2Bb%22&token=secret-word&limit=3")
    header = ["-H", "Authorization: Bearer $MICROTOME_TOKEN"]
    address = f"http://192.0.2.7:8765/api/s/{INDEX}/features?filter=label+~+%22a%2Bb%22&limit=3"
    assert shlex.split(line) == ["curl", "-s", address, *header]
    assert line.endswith('"Authorization: Bearer $MICROTOME_TOKEN"'), "single quotes would keep the shell from filling it in"
    tested = shlex.split(shell(f"/api/s/{INDEX}/f/3/test?text=the&token=secret-word"))
    assert tested[2] == f"http://192.0.2.7:8765/api/s/{INDEX}/f/3/test"
    assert tested[-2:] == header
    assert "secret-word" not in line + " ".join(tested)
    assert json.loads(tested[tested.index("-d") + 1]) == {"text": "the"}


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        (f"/api/s/{INDEX}/f/{D_DICT}", 404, "FeatureNotFound"),
        (f"/api/s/{INDEX}/d/5000", 404, "DocumentNotFound"),
        (f"/api/s/{INDEX}/d/0/t/99999", 422, "QueryInvalid"),
        (f"/api/s/{INDEX}/features?filter=densty+%3E+1", 422, "QueryInvalid"),
        (f"/api/s/{INDEX}/features?sort=nothing", 422, "QueryInvalid"),
        (f"/api/s/{INDEX}/features?limit=100000", 422, "QueryInvalid"),
        (f"/api/s/{INDEX}/f/minus-one", 422, "QueryInvalid"),
        (f"/api/s/{INDEX}/f/-1", 422, "QueryInvalid"),
        (f"/api/s/{INDEX}/search?text=", 422, "QueryInvalid"),
        (f"/api/s/{INDEX}/search?text=the&rank=" + "x" * 21, 422, "QueryInvalid"),
        (f"/api/s/{INDEX}/d/0?rank=" + "x" * 21, 422, "QueryInvalid"),
        (f"/api/s/{INDEX}/search?text=" + "x" * 20_001, 422, "QueryInvalid"),
        ("/api/s/smal", 404, "ArtifactMissing"),
        ("/api/s/..%2f..%2fetc", 404, "PageNotFound"),
        ("/api/s/.hidden", 422, "QueryInvalid"),
        ("/api/nothing", 404, "PageNotFound"),
    ],
)
def test_a_wrong_address_gets_four_parts(client: TestClient, path: str, *, status: int, error: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert set(answer.json()) == {"error", "what", "got", "wanted", "do", "docs"}
    assert answer.json()["do"]


def test_the_nearest_name_is_offered(client: TestClient) -> None:
    assert INDEX in client.get("/api/s/smal").json()["do"]
    assert "density" in client.get(f"/api/s/{INDEX}/features?filter=densty+%3E+1").json()["do"]


def test_a_body_that_is_not_what_it_should_be(client: TestClient) -> None:
    for body in ({"words": "x"}, {"text": 3}, ["x"], {"text": "x", "limit": 0}, {"text": "x" * 30_000}):
        answer = client.post(f"/api/s/{INDEX}/search", json=body, headers=WRITE)
        assert (answer.status_code, answer.json()["error"]) == (422, "QueryInvalid")
    broken = client.post(f"/api/s/{INDEX}/search", content=b'{"text": "\xff"', headers={**WRITE, "content-type": "application/json"})
    assert (broken.status_code, broken.json()["error"]) == (400, "QueryInvalid")
    assert client.post(f"/api/s/{INDEX}", headers=WRITE).status_code == 405


def test_a_mistake_of_the_server_is_said_in_four_parts_and_logged(model: Model, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def loader(ref: str, progress: Progress) -> Model:
        raise ZeroDivisionError("our own bug")

    with serving(create_app(workspace, model_loader=loader)) as address:
        answer = httpx.get(f"{address}/api/s/{INDEX}/search?text=the")
        assert httpx.get(f"{address}/api").status_code == 200
    assert (answer.status_code, answer.json()["error"]) == (500, "ServerFailed")
    assert set(answer.json()) == {"error", "what", "got", "wanted", "do", "docs"}
    assert "default-src" in answer.headers["content-security-policy"]
    assert "our own bug" not in answer.text
    assert "ZeroDivisionError: our own bug" in capsys.readouterr().err


def test_an_unchanged_page_is_not_sent_again(client: TestClient) -> None:
    first = client.get(f"/api/s/{INDEX}/f/1")
    again = client.get(f"/api/s/{INDEX}/f/1", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_persons_label_and_note_are_kept_and_taken_back(client: TestClient, workspace: Path) -> None:
    rule = client.get(f"/api/s/{INDEX}/f/5").json()["label"]
    named = client.post(f"/api/s/{INDEX}/f/5/label", json={"text": SCRIPT}, headers=WRITE).json()
    assert (named["text"], named["origin"]) == (SCRIPT, "user")
    assert client.get(f"/api/s/{INDEX}/features?search=alert").json()["rows"][0]["feature"] == 5
    notes = client.post(f"/api/s/{INDEX}/f/5/notes", json={"text": "looks odd"}, headers=WRITE).json()["notes"]
    assert notes[-1]["text"] == "looks odd"
    assert sqlite3.connect(workspace / "catalogue.sqlite").execute("pragma integrity_check").fetchone() == ("ok",)
    assert client.post(f"/api/s/{INDEX}/f/5/label", json={"text": ""}, headers=WRITE).json() == rule


def test_hostile_text_stays_text_in_the_json(client: TestClient) -> None:
    found = client.get(f"/api/s/{INDEX}/documents", params={"search": "onerror"})
    assert found.headers["content-type"] == "application/json"
    assert found.json()["rows"][0]["title"] == SCRIPT
