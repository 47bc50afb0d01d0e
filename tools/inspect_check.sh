#!/bin/sh
# Inspect pins an older fsspec than constraints.txt, so its tests run in an environment of their own:
#     tools/inspect_check.sh [FOLDER]        (by default .venv-inspect; made on the first call, about 200 MB beside torch)
set -eu
place=${1:-.venv-inspect}
test -x "$place/bin/python" || "${PYTHON:-python3}" -m venv "$place"
"$place/bin/python" -m pip install -q -e ".[inspect]" "pytest>=9" "pytest-timeout>=2.4" "beartype>=0.22" "hypothesis>=6" "httpx>=0.28" "openai>=2"
"$place/bin/python" -m pytest -q tests/steering/test_inspect.py
