"""Hub references are downloaded by the real client from a server that has the hub's addresses and a local folder; only what is needed travels."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest

from microtome.artifacts import Draft
from microtome.dictionaries import load_any, load_dictionary, save
from microtome.dictionaries.formats import hub
from microtome.dictionaries.formats.hub import HubRef, parse_ref
from microtome.errors import HubUnavailable

FIXTURES = Path(__file__).parent / "fixtures"
COMMIT = hashlib.sha1(b"mirror").hexdigest()
REPOSITORY = "google/gemma-scope-2b-pt-res"
LOAD = """
import json, sys, torch, microtome
from microtome.errors import MicrotomeError
for ref in sys.argv[1:]:
    try:
        made = microtome.load(ref, gain=lambda site: torch.ones(8))
        print(json.dumps({"sites": list(map(str, getattr(made, "sites", [made.reads] if hasattr(made, "reads") else [])))}))
    except MicrotomeError as error:
        print(json.dumps(error.to_json()))
"""


@contextmanager
def mirror(repositories: dict[str, Path]) -> Generator[tuple[str, list[str]]]:
    """A server of these folders under the hub's addresses, and the files that were asked of it."""
    served: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

        def answer(self, *, body: bool) -> None:
            path = self.path.split("?")[0]
            for name, folder in repositories.items():
                if path in (f"/api/models/{name}", f"/api/models/{name}/revision/main", f"/api/models/{name}/revision/{COMMIT}"):
                    files = [{"rfilename": file.relative_to(folder).as_posix()} for file in sorted(folder.rglob("*")) if file.is_file()]
                    self.reply(json.dumps({"id": name, "sha": COMMIT, "siblings": files}).encode(), body=body)
                    return
                for revision in ("main", COMMIT):
                    file = folder / path.removeprefix(f"/{name}/resolve/{revision}/")
                    if path.startswith(f"/{name}/resolve/{revision}/") and file.is_file():
                        if body:
                            served.append(file.relative_to(folder).as_posix())
                        self.reply(file.read_bytes(), body=body)
                        return
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def reply(self, content: bytes, *, body: bool) -> None:
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", served
    finally:
        server.shutdown()
        server.server_close()


def loaded(refs: list[str], home: Path, **environment: str) -> list[dict[str, str | list[str]]]:
    """What another process says of these references, with a hub of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_") and "proxy" not in name.lower()}
    told = {**kept, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", **environment}
    done = subprocess.run([sys.executable, "-c", LOAD, *refs], env=told, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_reference_is_downloaded_once_and_found_again_without_a_network(tmp_path: Path) -> None:
    (tmp_path / "listed").mkdir()
    place = "hf://google/gemma-scope-2b-pt-res/layer_2/width_16k/average_l0_9/params.npz?revision=main"
    hooks = {"feature_input_hook": "ln2.hook_normalized", "feature_output_hook": "hook_mlp_out"}
    (tmp_path / "listed" / "config.yaml").write_text(json.dumps({"model_kind": "transcoder_set", **hooks, "transcoders": [place]}))
    repositories = {
        REPOSITORY: FIXTURES / "gemma_scope" / "gemma-scope-2b-pt-res",
        "org/many": FIXTURES / "saelens",
        "org/listed": tmp_path / "listed",
    }
    with Draft.open(tmp_path / "own", "dictionary", config={}, inputs={}) as draft:
        save(load_dictionary(FIXTURES / "saelens" / "gated"), draft)
        draft.finish()
    repositories["org/own"] = tmp_path / "own"
    refs = [f"{REPOSITORY}/layer_2/width_16k/average_l0_9", "org/many/topk@main", "org/listed", "org/own", "org/many", "org/absent"]
    with mirror(repositories) as (address, served):
        gemma, topk, listed, own, many, absent = loaded(refs, tmp_path / "home", HF_ENDPOINT=address)
        assert gemma == {"sites": ["L2.resid_post"]}  # the site is only in the reference
        assert topk == {"sites": ["L2.resid_post"]}
        assert listed == {"sites": ["L0.mlp_in"]}  # its config names a file of the other repository
        assert own == {"sites": ["L2.resid_post"]}
        assert many["error"] == "FormatUnknown"  # several dictionaries: none is taken by chance
        assert absent["error"] == "HubUnavailable"
        files = ["layer_2/width_16k/average_l0_9/params.npz", "topk/cfg.json", "topk/sae_weights.safetensors", "config.yaml"]
        assert served == [*files, "manifest.json", "weights.safetensors"]
    *again, never = loaded([*refs[:4], "org/never"], tmp_path / "home", HF_ENDPOINT=address, HF_HUB_OFFLINE="1")
    assert again == [gemma, topk, listed, own]
    assert never["error"] == "HubUnavailable"


def test_a_server_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "HfApi", lambda: huggingface_hub.HfApi(endpoint="http://127.0.0.1:9"))
    monkeypatch.setattr(hub, "snapshot_download", partial(huggingface_hub.snapshot_download, cache_dir=tmp_path))
    with pytest.raises(HubUnavailable, match="org/repo"):
        load_any("org/repo/sub")


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("org/repo", HubRef("org/repo", "", None)),
        ("org/repo/sub/folder@v1", HubRef("org/repo", "sub/folder", "v1")),
        ("hf://org/repo/sub", HubRef("org/repo", "sub", None)),
    ],
)
def test_references_are_parsed_and_printed(text: str, ref: HubRef) -> None:
    assert parse_ref(text) == ref
    assert parse_ref(str(ref)) == ref


@pytest.mark.parametrize("text", ["./org/repo", "/org/repo", "~/repo", "repo", "org/repo@a b"])
def test_paths_are_not_taken_for_references(text: str) -> None:
    assert parse_ref(text) is None
