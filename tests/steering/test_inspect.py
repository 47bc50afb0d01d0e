"""Inspect runs its own example questions against the server, and in its own process; both answers are what `generate` makes."""

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

from steering.small import direction

from microtome.artifacts import Workspace
from microtome.conversation import Conversation, Turn
from microtome.models import Model, tiny
from microtome.progress import Progress
from microtome.steering import Add, EditSet, Sampling, Variant, generate, raw, save_variant
from microtome.web import create_app
from tests.web.serving import serving

REF = "tiny:llama@3"
SCRIPT = """
import json, sys
from inspect_ai import Task, eval
from inspect_ai.dataset import example_dataset
from inspect_ai.scorer import includes
from inspect_ai.solver import generate

if __name__ == "__main__":
    workspace, logs, out = sys.argv[1:]
    task = Task(dataset=example_dataset("security_guide"), solver=generate(), scorer=includes())
    options = dict(log_dir=logs, display="none", limit=4, max_tokens=8, temperature=0.0, log_samples=True)
    found = {}
    for name, arguments in (("openai-api/local/sailor", {}), ("microtome/sailor", {"workspace": workspace})):
        (log,) = eval(task, model=name, model_args=arguments, **options)
        samples = [(sample.messages[0].text, sample.output.completion, sample.output.stop_reason) for sample in log.samples or []]
        found[name] = {"status": log.status, "error": str(log.error), "samples": samples, "scores": len(log.results.scores) if log.results else 0}
    json.dump(found, open(out, "w"))
"""


def test_the_entry_point_names_the_provider():
    assert [each.value for each in entry_points(group="inspect_ai") if each.name == "microtome"] == ["microtome.steering.serving.inspect_provider"]


def test_its_own_questions_get_the_answers_of_generate(tmp_path: Path):
    model, place = tiny("llama", seed=3), Workspace(tmp_path / "workspace")
    edits = EditSet.of(Add(component=direction(), strength=raw(2)))
    save_variant(Variant(name="sailor", model=REF, fingerprint=model.fingerprint, edits=edits), place.place("variant", "sailor"))
    (tmp_path / "run.py").write_text(SCRIPT)

    def loader(ref: str, progress: Progress) -> Model:
        return model

    with serving(create_app(place.path, model_loader=loader)) as address:
        names = {"LOCAL_BASE_URL": f"{address}/v1", "LOCAL_API_KEY": "none", "PYTHONPATH": ""}
        command = [sys.executable, str(tmp_path / "run.py"), str(place.path), str(tmp_path / "logs"), str(tmp_path / "found.json")]
        done = subprocess.run(command, cwd=tmp_path, env=os.environ | names, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "found.json").read_text())
    for name in ("openai-api/local/sailor", "microtome/sailor"):
        assert (found[name]["status"], found[name]["scores"]) == ("success", 1), found[name]
        assert len(found[name]["samples"]) == 4
        for question, answer, reason in found[name]["samples"]:
            asked = Conversation(turns=(Turn(role="user", content=question),))
            (made,) = generate(model, asked, edits=edits, sampling=Sampling(max_new_tokens=8))
            assert (answer, reason) == (made.text, "stop" if made.ending == "eos" else "max_tokens")
