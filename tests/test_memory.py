"""Freed memory stays while it is asked to, and goes back at the end: counted in the pages that the system hands out to a fresh process."""

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")
pytestmark = [
    pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc"),
    pytest.mark.skipif(HUGE.exists() and "[always]" in HUGE.read_text(), reason="pages are too large to count"),
]
PROGRAM = """
import json, resource
from microtome.devices import memory_kept

def pages():
    "Share of the pages of ten buffers of 64 MiB, made and freed one after the other, that are new."
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        bytearray(b"1") * (64 << 20)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize() / (640 << 20)

found = {}
with memory_kept():
    pages()
    found["kept"] = pages()
    with memory_kept():
        pass
    found["after an inner end"] = pages()
found["after the end"] = pages()
try:
    with memory_kept():
        pages()
        raise RuntimeError
except RuntimeError:
    found["after an error"] = pages()
print(json.dumps(found))
"""


def test_the_same_memory_is_used_again_until_the_outermost_end() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    new: dict[str, float] = json.loads(ran.stdout)
    assert new["kept"] < 0.1
    assert new["after an inner end"] < 0.1
    assert new["after the end"] > 0.8
    assert new["after an error"] > 0.8
