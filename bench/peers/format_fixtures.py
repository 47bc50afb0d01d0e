"""Make the fixtures of tests/dictionaries/fixtures: what other libraries write and compute, and whether they open what microtome writes.

    python bench/peers/format_fixtures.py

Each library runs in its own environment (`bench/peers/setup.py`) on tiny seeded weights. First it writes its own files and its own outputs. Then
microtome reads them, checks that its outputs are the same, writes them again in that format, and the library opens those; `record.json` says by which
release and how far its outputs are from the first ones.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import Distribution
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from setup import python_of

from microtome.dictionaries import Dictionary, DictionarySet, formats

HERE = Path(__file__).parent
FIXTURES = HERE.parents[1] / "tests" / "dictionaries" / "fixtures"
PEERS = {
    "saelens": ("saelens", "saelens_.py", "sae-lens"),
    "sparsify": ("sparsify", "sparsify_.py", "eai-sparsify"),
    "dictionary_learning": ("dictionary_learning", "dictionary_learning_.py", "dictionary-learning"),
    "circuit_tracer": ("dictionary_learning", "circuit_tracer_.py", "circuit-tracer"),
}
"""Format, environment, script, distribution."""
NOT_OPENED = {"saelens": (), "circuit_tracer": ("cross_layer_skip",)}
"""Cases that the library itself cannot open: the skip of a cross-layer transcoder is of a later release."""
NEAR = 1e-5


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made"
        made.mkdir()
        for name in PEERS:
            _run(name, "make", made)
        shutil.rmtree(FIXTURES, ignore_errors=True)
        shutil.copytree(made, FIXTURES)
        record = {name: _opened(name, Path(folder)) for name in PEERS}
    (FIXTURES / "record.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


def _run(name: str, verb: str, folder: Path) -> None:
    environment, script, _ = PEERS[name]
    same_order = {**os.environ, "PYTHONHASHSEED": "0"}  # SAELens writes the keys of a set
    subprocess.run([python_of(environment), HERE / "formats" / script, verb, folder], check=True, env=same_order)


def _opened(name: str, folder: Path) -> dict[str, object]:
    """Let a library open what microtome writes of every case, and compare what comes out."""
    work = folder / name
    work.mkdir()
    expected: dict[str, dict[str, torch.Tensor]] = {}
    for case in sorted(path for path in (FIXTURES / name).iterdir() if path.is_dir()):
        if case.name in NOT_OPENED.get(name, ()):
            continue
        read = formats.read_foreign(case)
        formats.write_foreign(read.dictionary, work / case.name, format_name=name, about=read.about)
        expected[case.name] = load_file(FIXTURES / name / f"{case.name}.expected.safetensors")
        save_file({"x": expected[case.name]["x"]}, work / f"{case.name}.inputs.safetensors")
        _same(read.dictionary, expected[case.name])
    _run(name, "open", work)
    distances: dict[str, float] = {}
    for case, tensors in expected.items():
        got = load_file(work / f"{case}.expected.safetensors")
        distances[case] = max(float((got[part] - tensors[part]).abs().max()) for part in ("codes", "y"))
        assert distances[case] < NEAR, f"{name} computes something else from what microtome wrote of {case}: {distances[case]}"
    return {"opened_by": f"{PEERS[name][2]} {_version(name)}", "largest_difference": distances}


def _same(dictionary: Dictionary | DictionarySet, expected: dict[str, torch.Tensor]) -> None:
    x = expected["x"]
    inputs = dict(zip(dictionary.sites, x, strict=True)) if isinstance(dictionary, DictionarySet) else {dictionary.reads: x}
    whole = dictionary if isinstance(dictionary, DictionarySet) else DictionarySet((dictionary,))
    y = torch.stack(list(whole.reconstruct(inputs).values())).reshape(expected["y"].shape)
    assert float((y - expected["y"]).abs().max()) < NEAR


def _version(name: str) -> str:
    environment = python_of(PEERS[name][0]).parents[1]
    site = next(environment.glob("lib/python*/site-packages"))
    return next(found.version for found in Distribution.discover(name=PEERS[name][2], path=[str(site)]))


if __name__ == "__main__":
    sys.exit(main())
