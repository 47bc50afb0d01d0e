"""Test set-up: sleeping OpenMP threads, and shapes checked at every call."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from jaxtyping import install_import_hook

_hook = install_import_hook("microtome", "typecheck.check")
