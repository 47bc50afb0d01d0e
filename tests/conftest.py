"""Test set-up: sleeping OpenMP threads, shapes checked at calls, and the longest files first."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import jaxtyping
import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is first imported, which transformers does

import typecheck

_hook = jaxtyping.install_import_hook("microtome", "typecheck.check")
jaxtyping.jaxtyped = typecheck.outermost

_LONG = ("test_whole_path.py", "test_sweep.py", "test_kinds.py")
"""Files that take minutes: with several processes they begin first, so that none waits for them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _LONG.index(item.path.name) if item.path.name in _LONG else len(_LONG))


def pytest_runtest_setup() -> None:
    typecheck.begin()
