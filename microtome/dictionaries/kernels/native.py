"""The compiled kernels: C for x86 processors with AVX2, built with the system's compiler on first use, and optional.

Where anything is missing (another processor, no compiler, `MICROTOME_NATIVE=0`) `available` is false and `ops` takes torch. Calls release the
interpreter's lock and are spread over `torch.get_num_threads()` threads by rows or features; results do not depend on their number.
"""

import ctypes
import functools
import hashlib
import itertools
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from microtome.devices import cache_dir
from microtome.shapes import Tensor

_SOURCES = ("native.h", "native_propose.c", "native_sums.c", "native_update.c")
_FLAGS = ("-O3", "-march=native", "-shared", "-fPIC")
_NEEDED = {"avx2", "fma"}
_I, _P, _F = ctypes.c_int64, ctypes.c_void_p, ctypes.c_float
_ARGUMENTS: dict[str, tuple[type, ...]] = {
    "quantise": (_P, _I, _I),
    "top_k": (_P, _P, _P, _P, _I, _I, _I, _F, _I, _P, _P),
    "above": (_P, _P, _P, _P, _P, _I, _F, _P, _P),
    "take": (_P, _P, _P),
    "decode": (_P, _P, _P, _P, _I, _I, _P, _I, _I),
    "row_dots": (_P, _P, _P, _P, _I, _I, _P, _I, _I),
    "by_feature": (_P, _P, _I, _I, _P, _P, _P),
    "largest": (_P, _P, _P, _I, _F, _I, _P, _P, _P),
    "feature_sums": (_P, _P, _P, _P, _P, _I, _P, _I, _I),
    "adam": (_P, _P, _P, _P, _P, _I, _I, _I),
}
_FAILURES = {"top_k": MemoryError, "above": MemoryError, "decode": IndexError, "row_dots": IndexError, "by_feature": IndexError}
"""What a negative result means: no memory, or a pair whose feature is not there."""
_COUNTS = {*_FAILURES, "largest"}
"""Functions that return a number; the others return nothing."""


def available() -> bool:
    """Whether the compiled kernels are in use; the first call may compile them, which takes a few seconds."""
    return os.environ.get("MICROTOME_NATIVE", "1") != "0" and isinstance(_load(), ctypes.CDLL)


def why_not() -> str | None:
    """Why they are not in use; None where they are."""
    if os.environ.get("MICROTOME_NATIVE", "1") == "0":
        return "MICROTOME_NATIVE is 0"
    loaded = _load()
    return None if isinstance(loaded, ctypes.CDLL) else loaded


def call(name: str, *arguments: object) -> int:
    """One function of the library. Tensors are passed by address: contiguous, on the CPU, and kept alive by the caller."""
    library = _load()
    assert isinstance(library, ctypes.CDLL)
    found = getattr(library, f"microtome_{name}")(*(value.data_ptr() if isinstance(value, Tensor) else value for value in arguments))
    if name in _FAILURES and found < 0:
        raise _FAILURES[name](f"the compiled kernel {name} returned {found}")
    return found or 0


def spread(task: Callable[[int, int], object], total: int, *, grain: int) -> None:
    """Run `task(first, last)` over parts of range(total), each a multiple of `grain` long, on torch's number of threads."""
    workers = torch.get_num_threads()
    parts = 1 if workers == 1 else 4 * workers
    size = max(grain, -(-total // (parts * grain)) * grain)
    bounds = [(first, min(first + size, total)) for first in range(0, total, size)]
    if workers == 1 or len(bounds) < 2:
        for first, last in bounds:
            task(first, last)
        return
    for _ in _pool(os.getpid(), workers).map(lambda part: task(*part), bounds):
        pass


@functools.lru_cache(maxsize=1)
def _pool(process: int, workers: int) -> ThreadPoolExecutor:
    """Of one process: a fork has none of its parent's threads."""
    return ThreadPoolExecutor(workers, thread_name_prefix=f"microtome-{process}")


@functools.cache
def _load() -> ctypes.CDLL | str:
    """The library, or why there is none."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"no compiled kernels for {platform.machine()} on {sys.platform}"
    processor = _processor()
    if not set(processor.split()) >= _NEEDED:
        return f"the processor lacks {', '.join(sorted(_NEEDED - set(processor.split())))}"
    compiler = next((path for name in (os.environ.get("CC", "cc"), "gcc", "clang") if (path := shutil.which(name))), None)
    if compiler is None:
        return "no C compiler (cc, gcc, clang) found"
    try:
        library = ctypes.CDLL(str(_built(compiler, processor)))
    except (OSError, subprocess.SubprocessError) as error:
        return f"{compiler} could not build them: {error}"
    for name, arguments in _ARGUMENTS.items():
        function = getattr(library, f"microtome_{name}")
        function.argtypes = arguments
        function.restype = _I if name in _COUNTS else None
    return library


def _processor() -> str:
    """Model and features, as the kernel names them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    first = {key.strip(): value for key, _, value in (line.partition(":") for line in itertools.takewhile(bool, lines))}
    return f"{first.get('model name', '')} {first.get('flags', '')}"


def _built(compiler: str, processor: str) -> Path:
    """The library in the cache, under a name made of everything it depends on; compiled into place whole if it is not there.

    It is code, so the folder must be this user's (or root's) and is closed to writers, and a library that others could have written is made anew.
    """
    home = Path(__file__).parent
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
    parts = [*((home / name).read_text() for name in _SOURCES), " ".join(_FLAGS), version, processor]
    name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    file = cache_dir() / "kernels" / f"native-{name}.so"
    file.parent.mkdir(parents=True, exist_ok=True)
    if not _is_ours(file.parent):
        if file.parent.stat().st_uid != os.getuid():
            raise PermissionError(f"{file.parent} belongs to another user: set MICROTOME_CACHE to a folder of your own")
        file.parent.chmod(0o755)
    if file.exists() and _is_ours(file):
        return file
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        built = Path(folder) / file.name
        sources = [str(home / name) for name in _SOURCES if name.endswith(".c")]
        subprocess.run([compiler, *_FLAGS, *sources, "-o", str(built), "-lm"], capture_output=True, check=True, timeout=120)
        built.chmod(0o755)
        built.replace(file)
    return file


def _is_ours(path: Path) -> bool:
    """Whether only this user, or root, can have written it."""
    status = path.stat()
    return status.st_uid in {os.getuid(), 0} and not status.st_mode & 0o022
