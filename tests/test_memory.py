"""Freed memory stays while it is asked to, and goes back at the end: counted in the pages that the system hands out."""

import platform
import resource
from pathlib import Path

import pytest
import torch

from microtome.devices import memory_kept

HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")
pytestmark = [
    pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc"),
    pytest.mark.skipif(HUGE.exists() and "[always]" in HUGE.read_text(), reason="pages are too large to count"),
]
PAGES = (64 << 20) // resource.getpagesize()


def pages_of_ten_tensors() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.empty(64 << 20, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_the_same_memory_is_used_again_until_the_outermost_end() -> None:
    with memory_kept():
        pages_of_ten_tensors()
        assert pages_of_ten_tensors() < PAGES
        with memory_kept():
            pass
        assert pages_of_ten_tensors() < PAGES
    assert pages_of_ten_tensors() > 8 * PAGES


def test_an_error_ends_it_too() -> None:
    with pytest.raises(RuntimeError, match="stopped"), memory_kept():
        pages_of_ten_tensors()
        raise RuntimeError("stopped")
    assert pages_of_ten_tensors() > 8 * PAGES
