"""How the command line answers what it does not understand, and how errors leave it."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cyclopts import App

from microtome.cli.app import VERBS, build_app, run
from microtome.errors import SiteNotFound
from tests.cli.calls import call


def failing(error: BaseException) -> App:
    app = App(result_action="return_value", suppress_keyboard_interrupt=False)

    def fail(*, json: bool = False) -> None:
        raise error

    app.command(fail)
    return app


def test_a_misspelt_verb_is_told_the_nearest() -> None:
    called = call("harvst", "demo")
    assert called.code == 2
    assert 'Did you mean "harvest"?' in called.err
    assert called.out == ""


def test_a_misspelt_option_is_told_the_nearest_and_its_verbs_help() -> None:
    called = call("train", "wiki", "--featurs", "64")
    assert called.code == 2
    assert "--features" in called.err
    assert "microtome train --help" in called.err


def test_a_value_of_the_wrong_type_is_named() -> None:
    assert "many" in call("train", "wiki", "--features", "many").err


def test_an_error_has_its_four_parts_on_standard_error_and_as_json_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    error = SiteNotFound("no site L30.", got="L30", wanted="L0 … L11", do="Take L11.")
    assert run(["fail", "--json"], app=failing(error)) == 2
    captured = capsys.readouterr()
    for part in ("SiteNotFound: no site L30.", "got:    L30", "wanted: L0 … L11", "do:     Take L11.", "docs/errors.md#site-not-found"):
        assert part in captured.err
    assert '"what": "no site L30."' in captured.out


def test_ctrl_c_says_how_to_resume(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fail"], app=failing(KeyboardInterrupt())) == 130
    assert "run the same command again to resume" in capsys.readouterr().err


@pytest.mark.parametrize("bug", [ZeroDivisionError(), RuntimeError("shapes differ")])
def test_what_is_our_own_bug_is_not_dressed_up(bug: Exception) -> None:
    with pytest.raises(type(bug)):
        run(["fail"], app=failing(bug))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["harvest", "tiny:llama", "--corpus", "a" * 300, "--site", "L1.resid_post", "--context-length", "64"], "File name too long"),
        (
            ["harvest", "tiny:llama", "--corpus", "FILE", "--site", "L1.resid_post", "--context-length", "64", "--workspace", "FILE"],
            "Not a directory",
        ),
        (["harvest", "~nosuchuser/x", "--corpus", "FILE", "--site", "L1.resid_post"], "home directory"),
    ],
)
def test_what_the_system_refuses_has_four_parts_and_no_traceback(given: list[str], said: str, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("one two three\n")
    words = [str(file) if word == "FILE" else word for word in given]
    called = call(*words, *([] if "--workspace" in words else ["--workspace", str(tmp_path / "w")]), "--json")
    assert called.code == 2
    assert "SystemRefused" in called.err
    assert said in called.err
    assert "Traceback" not in called.err
    assert '"error": "SystemRefused"' in called.out


def test_an_unreadable_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    refusal = PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/secret.jsonl")
    assert run(["fail"], app=failing(refusal)) == 2
    captured = capsys.readouterr()
    assert "Permission denied" in captured.err
    assert "/secret.jsonl" in captured.err


@pytest.mark.parametrize("verb", [verb.__name__ for verb in VERBS])
def test_the_help_of_every_verb_has_examples_and_explains_every_option(verb: str) -> None:
    called = call(verb, "--help")
    assert called.code == 0
    assert "Examples:" in called.out
    assert f"    microtome {verb}" in called.out
    for argument in build_app()[verb].assemble_argument_collection(parse_docstring=True):
        assert argument.parameter.name == ("*",) or argument.parameter.help, f"{verb} {argument.names} has no words of help"


def test_help_needs_no_torch_and_is_instant() -> None:
    code = (
        "import sys\nfrom microtome.cli.app import run\nassert run(['--help']) == 0\n"
        "heavy = {'torch', 'transformers', 'pyarrow', 'fastapi', 'scipy'} & set(sys.modules)\nassert not heavy, heavy"
    )
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, stdin=subprocess.DEVNULL)
    assert time.monotonic() - began < 5, "bench/imports.py measures it properly"


def test_output_into_a_closed_pipe_ends_quietly() -> None:
    command = f"{sys.executable} -m microtome demo --help | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "80"})
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("limit", ["-1", "few"])
def test_an_unfit_limit_is_refused(limit: str) -> None:
    called = call("show", "--limit", limit)
    assert called.code == 2
    assert "CommandInvalid" in called.err


def test_serve_needs_a_folder(tmp_path: Path) -> None:
    called = call("serve", str(tmp_path / "nothing"))
    assert called.code == 2
    assert "ArtifactMissing" in called.err
