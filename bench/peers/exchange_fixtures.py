"""Make the fixtures of tests/features/fixtures: what other tools write about features, and whether they open what microtome writes.

    python bench/peers/exchange_fixtures.py

Their packages run in an environment of their own (`bench/peers/setup.py exchange`). First each writes files with its own classes: the fixtures.
Then microtome exports a small index, whose text has characters spread over tokens, and each opens that; `record.json` says by which release
and how much of it was compared.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from setup import python_of

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FIXTURES = ROOT / "tests" / "features" / "fixtures"
PEERS = {"neuronpedia": "neuronpedia", "saedashboard": "sae-dashboard", "delphi": "eai-delphi", "circuit_tracer": "circuit-tracer"}
FORMATS = ("neuronpedia", "neuronpedia-upload", "saedashboard", "delphi", "circuit-tracer")


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from microtome.features.exchange import Wanted, bundle_of, export_index
    from tests.features.small_store import make

    shutil.rmtree(FIXTURES, ignore_errors=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        index = make(folder / "workspace").build("small")
        for format_name in FORMATS:
            export_index(index.store, folder / format_name, format_name=format_name)
        bundle = bundle_of(index.store, Wanted())
        records = list(bundle.records(bundle.source(), None))
        expected = {
            record.number: {"texts": [each.text for each in record.examples], "label": record.label, "raises": [e.text for e in record.top_logits]}
            for record in records
        }
        (folder / "expected.json").write_text(json.dumps(expected))
        store = index.store
        dense = np.zeros((store.corpus.n_tokens, store.n_features), dtype=np.float32)
        for feature in range(store.n_features):
            firings = store.postings.feature(feature)
            dense[firings.positions, feature] = firings.values
        np.save(folder / "dense.npy", dense)
        np.save(folder / "tokens.npy", np.asarray(store.corpus.tokens))
        record = {peer: _checked(peer, folder) for peer in PEERS}
    (FIXTURES / "record.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


def _checked(peer: str, folder: Path) -> dict[str, object]:
    made = FIXTURES / peer
    made.mkdir(parents=True)
    _run(peer, "make", made)
    opened = json.loads(_run(peer, "open", folder).splitlines()[-1])
    release = subprocess.run([python_of("exchange"), "-m", "pip", "show", PEERS[peer]], capture_output=True, text=True, check=True).stdout
    return {"release": next(line.split()[1] for line in release.splitlines() if line.startswith("Version:")), "opened": opened}


def _run(peer: str, verb: str, folder: Path) -> str:
    command = [python_of("exchange"), HERE / "exchange" / f"{peer}_.py", verb, folder]
    quiet = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=quiet).stdout


if __name__ == "__main__":
    main()
