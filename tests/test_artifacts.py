"""Artifacts are whole or absent, hash-checked, resumable and made by one process at a time."""

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from microtome.artifacts import Artifact, Draft, Workspace, disk_full_named, existing, read_manifest, sha256_of, write_atomic
from microtome.errors import ArtifactConflict, ArtifactDamaged, ArtifactForeign, ArtifactMissing, DiskFull, WorkspaceBusy

CONFIG = {"source": "wiki", "seed": 0}
INPUTS = {"model": "abc"}


def make(folder: Path, content: bytes = b"hello", **changes: object) -> Artifact:
    work = {"config": CONFIG, "inputs": INPUTS} | changes
    with Draft.open(folder, "corpus", **work) as draft:  # type: ignore[arg-type]  # changes are checked by the tests that give them
        draft.write("part/a.bin", content)
        return draft.finish(summary={"n": 5})


def test_same_work_gives_the_same_bytes_and_id(tmp_path: Path) -> None:
    one, two = make(tmp_path / "one"), make(tmp_path / "two")
    assert (one.path / "manifest.json").read_bytes() == (two.path / "manifest.json").read_bytes()
    assert one.id == two.id == Artifact.open(tmp_path / "one", "corpus").id
    assert make(tmp_path / "three", b"other").id != one.id


def test_a_finished_artifact_is_found_again_only_for_the_same_work(tmp_path: Path) -> None:
    made = make(tmp_path / "a")
    found = existing(tmp_path / "a", "corpus", config=CONFIG, inputs=INPUTS)
    assert found is not None
    assert found.id == made.id
    assert existing(tmp_path / "a", "corpus", config=CONFIG | {"seed": 1}, inputs=INPUTS) is None
    assert existing(tmp_path / "a", "corpus", config=CONFIG, inputs={"model": "other"}) is None
    assert existing(tmp_path / "absent", "corpus", config=CONFIG, inputs=INPUTS) is None


def test_an_unfinished_folder_is_not_an_artifact_and_is_resumed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Draft.open(tmp_path, "corpus", config=CONFIG, inputs=INPUTS) as draft:
        draft.write("done.bin", b"1")
        raise KeyboardInterrupt
    with pytest.raises(ArtifactMissing, match="no finished artifact"):
        Artifact.open(tmp_path, "corpus")
    with Draft.open(tmp_path, "corpus", config=CONFIG, inputs=INPUTS) as draft:
        assert draft.has("done.bin")
        assert not draft.has("later.bin")
        assert draft.finish().files() == ["done.bin"]


def test_a_half_written_file_is_never_under_its_final_name(tmp_path: Path) -> None:
    with Draft.open(tmp_path, "corpus", config=CONFIG, inputs=INPUTS) as draft:
        with pytest.raises(ValueError, match="stop"), draft.place("big.bin") as temporary:
            temporary.write_bytes(b"half")
            raise ValueError("stop")
        assert not draft.has("big.bin")
        assert not list(tmp_path.glob("*.partial"))


def test_a_killed_writer_leaves_a_resumable_folder_and_no_lock(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\nfrom microtome.artifacts import Draft\n"
        f"with Draft.open(sys.argv[1], 'corpus', config={CONFIG!r}, inputs={INPUTS!r}) as draft:\n"
        "    draft.write('part/a.bin', b'hello')\n"
        "    with draft.place('b.bin') as half:\n        half.write_bytes(b'x')\n        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path / "killed")], check=False)
    assert killed.returncode == -signal.SIGKILL
    resumed, whole = make(tmp_path / "killed"), make(tmp_path / "whole")
    assert resumed.id == whole.id
    assert sorted(file.name for file in resumed.path.rglob("*")) == sorted(file.name for file in whole.path.rglob("*"))


def test_other_work_is_not_overwritten_unless_asked(tmp_path: Path) -> None:
    make(tmp_path / "a")
    with pytest.raises(ArtifactConflict, match="a finished artifact"):
        make(tmp_path / "a", config={"seed": 9})
    assert make(tmp_path / "a", b"new", config={"seed": 9}, replace=True).manifest.config == {"seed": 9}


def test_an_unfinished_draft_of_other_work_is_not_resumed(tmp_path: Path) -> None:
    with Draft.open(tmp_path, "corpus", config=CONFIG, inputs=INPUTS) as draft:
        draft.write("x", b"")
    with pytest.raises(ArtifactConflict, match="not finished"):
        make(tmp_path, config={"seed": 9})
    assert make(tmp_path, config={"seed": 9}, replace=True).files() == ["part/a.bin"]


KILLED_AT = """
import os, signal, sys
from pathlib import Path
from microtome.artifacts import Draft
name, count, real = sys.argv[2], int(sys.argv[3]), getattr(Path, sys.argv[2])
def counted(path, *args, **kwargs):
    global count
    count -= 1
    if count < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(path, *args, **kwargs)
setattr(Path, name, counted)
with Draft.open(sys.argv[1], "corpus", config={"seed": 9}, inputs={}, replace=True) as draft:
    draft.finish()
"""


def killed_at(folder: Path, call: str, *, count: int) -> bool:
    """Make other work in place of what `folder` holds, in a process that dies before its call number `count` of `Path.call`."""
    return subprocess.run([sys.executable, "-c", KILLED_AT, str(folder), call, str(count)], check=False).returncode == -signal.SIGKILL


def test_a_kill_before_the_draft_is_written_leaves_no_foreign_files(tmp_path: Path) -> None:
    assert killed_at(tmp_path / "a", "rename", count=0)
    assert len(list((tmp_path / "a").glob("draft.json.*.partial"))) == 1
    assert make(tmp_path / "a").id == make(tmp_path / "b").id
    assert sorted(file.name for file in (tmp_path / "a").iterdir()) == sorted(file.name for file in (tmp_path / "b").iterdir())


def test_a_replacement_killed_anywhere_can_be_made_again(tmp_path: Path) -> None:
    deletions = 0
    while True:
        folder = tmp_path / str(deletions)
        with Draft.open(folder, "corpus", config=CONFIG, inputs=INPUTS) as draft:
            for name in ("a.bin", "part/b.bin", "z.bin"):
                draft.write(name, b"hello")
            draft.finish()
        if not killed_at(folder, "unlink", count=deletions):
            break
        if 0 < deletions < 3:
            with pytest.raises(ArtifactDamaged, match="no such file"):
                Artifact.open(folder, "corpus")
        assert make(folder, replace=True).files() == ["part/a.bin"]
        deletions += 1
    assert deletions >= 4


def test_foreign_files_are_never_deleted(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for replace in (False, True):
        with pytest.raises(ArtifactConflict):
            make(tmp_path, replace=replace)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_truncated_file_is_found_on_opening(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "part/a.bin").write_bytes(b"hell")
    with pytest.raises(ArtifactDamaged, match=r"a\.bin is damaged"):
        Artifact.open(tmp_path, "corpus")


def test_missing_file_is_found_on_opening(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "part/a.bin").unlink()
    with pytest.raises(ArtifactDamaged, match="no such file"):
        Artifact.open(tmp_path, "corpus")


def test_flipped_bit_is_found_before_the_file_is_read(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "part/a.bin").write_bytes(b"hellp")
    artifact = Artifact.open(tmp_path, "corpus")
    with pytest.raises(ArtifactDamaged, match="sha256"):
        artifact.file("part/a.bin")
    with pytest.raises(ArtifactDamaged):
        artifact.verify()


def test_foreign_kind_and_version_are_named(tmp_path: Path) -> None:
    make(tmp_path / "a")
    with pytest.raises(ArtifactForeign, match="another kind"):
        Artifact.open(tmp_path / "a", "index")
    make(tmp_path / "b", format=99)
    with pytest.raises(ArtifactForeign, match="corpus format 99"):
        Artifact.open(tmp_path / "b", "corpus")


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[]", b"{}", b'{"kind": "corpus"}'])
def test_broken_manifest_is_named(tmp_path: Path, content: bytes) -> None:
    make(tmp_path)
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(ArtifactDamaged, match=r"manifest\.json is damaged"):
        read_manifest(tmp_path)


def test_a_changed_manifest_is_noticed_wherever_it_was_changed(tmp_path: Path) -> None:
    """Every byte in turn, one bit flipped and all bits flipped: the manifest is damaged, or (white space) says exactly what it said."""
    told = {"n": 5, "share": 0.1, "name": "wörter", "sizes": [1, 2.5, None, True]}
    with Draft.open(tmp_path, "corpus", config=CONFIG, inputs=INPUTS) as draft:
        draft.write("part/a.bin", b"hello")
        made = draft.finish(summary=told).manifest
    file, refused = tmp_path / "manifest.json", 0
    whole = file.read_bytes()
    for place in range(len(whole)):
        for bits in (0x01, 0x10, 0xFF):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ bits]) + whole[place + 1 :])
            try:
                assert Artifact.open(tmp_path, "corpus").manifest == made
            except ArtifactDamaged:
                refused += 1
    assert refused > 2 * len(whole)
    file.write_bytes(whole)
    assert Artifact.open(tmp_path, "corpus").id == made.id == json.loads(whole)["id"]


@pytest.mark.parametrize("value", [b"NaN", b'"\\ud800"', b"[" * 3000 + b"]" * 3000])
def test_a_manifest_with_values_that_are_never_written_is_named(tmp_path: Path, value: bytes) -> None:
    make(tmp_path)
    file = tmp_path / "manifest.json"
    file.write_bytes(file.read_bytes().replace(b'"n": 5', b'"n": ' + value))
    with pytest.raises(ArtifactDamaged, match=r"manifest\.json is damaged"):
        read_manifest(tmp_path)


def test_manifest_holds_the_hash_of_every_file_and_no_path_or_time(tmp_path: Path) -> None:
    artifact = make(tmp_path)
    content = json.loads((tmp_path / "manifest.json").read_text())
    assert content["files"] == {"part/a.bin": {"sha256": sha256_of(artifact.file("part/a.bin")), "bytes": 5}}
    assert str(tmp_path) not in (tmp_path / "manifest.json").read_text()


def _hold(folder: str, ready: str) -> None:
    with Draft.open(folder, "corpus", config=CONFIG, inputs=INPUTS):
        Path(ready).touch()
        signal.pause()


def test_a_second_process_is_told_that_the_first_is_writing(tmp_path: Path) -> None:
    holder = multiprocessing.get_context("spawn").Process(target=_hold, args=(str(tmp_path / "a"), str(tmp_path / "ready")))
    holder.start()
    try:
        while not (tmp_path / "ready").exists():
            assert holder.is_alive()
        with pytest.raises(WorkspaceBusy, match="another process is writing"):
            make(tmp_path / "a")
    finally:
        holder.kill()
        holder.join()
    assert make(tmp_path / "a").files() == ["part/a.bin"]


def test_full_disk_is_named_and_what_was_finished_stays(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match="is full"), Draft.open(tmp_path, "corpus", config=CONFIG, inputs=INPUTS) as draft:
        draft.write("first.bin", b"1")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert (tmp_path / "first.bin").read_bytes() == b"1"
    with pytest.raises(ZeroDivisionError), disk_full_named(tmp_path):
        _ = 1 / 0


def test_workspace_finds_by_name_by_id_and_alone(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(ArtifactMissing, match="holds 0 artifacts"):
        workspace.find("corpus")
    made = make(workspace.place("corpus", "wiki"))
    assert workspace.find("corpus") == workspace.find("corpus", "wiki") == workspace.by_id("corpus", made.id) == made.path
    make(workspace.place("corpus", "chats"), b"two")
    with pytest.raises(ArtifactMissing, match="holds 2 artifacts"):
        workspace.find("corpus")
    with pytest.raises(ArtifactMissing) as caught:
        workspace.find("corpus", "wikki")
    assert 'Did you mean "wiki"?' in str(caught.value)
    with pytest.raises(ArtifactMissing):
        workspace.by_id("corpus", "0" * 16)


@pytest.mark.parametrize("name", ["", "../etc", "a/b", ".hidden", "nul\0"])
def test_workspace_refuses_names_that_are_paths(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArtifactMissing, match="cannot be the name"):
        Workspace(tmp_path).place("corpus", name)


def test_write_atomic_replaces_whole_files(tmp_path: Path) -> None:
    write_atomic(tmp_path / "x", "one")
    write_atomic(tmp_path / "x", b"two")
    assert (tmp_path / "x").read_bytes() == b"two"
    assert [file.name for file in tmp_path.iterdir()] == ["x"]
