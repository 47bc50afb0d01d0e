"""Make the virtual environment of a peer: `python bench/peers/setup.py saelens` (or sparsify, or nothing for all).

Each lives in `bench/peers/<name>/.venv`. torch is installed first and by itself, at the version of constraints.txt, so that all trainers
run on the same one. A second run is instant.
"""

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PEERS = {
    "saelens": ["sae-lens==6.54.12 dataclasses-json eindex-callum matplotlib", "--no-deps sae-dashboard==0.8.0"],
    "sparsify": ["eai-sparsify==1.3.3"],
    # what these two need to run at all: their own lists ask for old releases of transformers, nnsight and others
    "dictionary_learning": ["einops tqdm numpy safetensors huggingface_hub pyyaml", "--no-deps dictionary-learning==0.1.0 circuit-tracer==0.5.0"],
    # readers of features: their own lists ask for transformer-lens, vllm, faiss and others, which reading a file does not need
    "exchange": [
        "numpy safetensors pydantic jaxtyping requests python-dotenv tqdm orjson asyncer simple-parsing blobfile transformers",
        "--no-deps neuronpedia==1.2.1 sae-dashboard==0.8.0 eai-delphi==0.1.3 circuit-tracer==0.5.0",
    ],
    # attribution: its own bounds of transformers and huggingface_hub hold; TransformerLens 4 no longer has the class that it builds on
    "circuit_tracer": [
        "transformers==4.57.3 huggingface_hub<1.0 transformer-lens==2.16.1 pyarrow==17.0.0 datasets==2.21.0 einops numpy pydantic safetensors tqdm",
        "--no-deps circuit-tracer==0.5.0",
    ],
}
"""What pip installs after torch, one call an entry."""


def python_of(name: str) -> Path:
    """The interpreter of a peer's environment, which is made if it is not there."""
    folder = HERE / name / ".venv"
    python, stamp = folder / "bin" / "python", folder / f"{PEERS[name][-1].replace(' ', '_')}"
    if not stamp.exists():
        print(f"setting up {name} in {folder} …", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        for packages in (_torch(), *PEERS[name]):
            install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages.split()]
            subprocess.run(install, check=True, stdout=sys.stderr)
        stamp.touch()
    return python


def _torch() -> str:
    pinned = re.search(r"^torch==\S+", (HERE.parents[1] / "constraints.txt").read_text(), flags=re.MULTILINE)
    assert pinned is not None
    return pinned[0]


if __name__ == "__main__":
    for name in sys.argv[1:] or PEERS:
        print(python_of(name))
