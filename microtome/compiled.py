"""C sources of a room, built with the system's compiler on first use, for x86 processors with AVX2, and optional.

Where anything is missing (another processor, no compiler, `MICROTOME_NATIVE=0`) `available` is false and the caller takes its plain form, which
computes the same. Calls release the interpreter's lock.
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
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import final

import numpy as np
import torch

from microtome.devices import cache_dir
from microtome.shapes import Tensor

_FLAGS = ("-O3", "-march=native", "-shared", "-fPIC")
_NEEDED = {"avx2", "fma", "f16c"}
INTEGER, POINTER, FLOAT = ctypes.c_int64, ctypes.c_void_p, ctypes.c_float


def is_wanted() -> bool:
    """Whether faster code may stand in for torch's; `MICROTOME_NATIVE=0` says no."""
    return os.environ.get("MICROTOME_NATIVE", "1") != "0"


@final
class Library:
    """The C files of one folder as one shared library; its functions are called `microtome_NAME` there."""

    def __init__(
        self,
        name: str,
        *,
        home: Path,
        sources: Sequence[str],
        arguments: Mapping[str, tuple[type, ...]],
        counts: frozenset[str] = frozenset(),
        failures: Mapping[str, type[Exception]] | None = None,
    ) -> None:
        """`arguments`: of every function. Those in `counts` return a number, those in `failures` a negative one when they fail; others nothing."""
        self._name, self._home, self._sources, self._arguments = name, home, tuple(sources), dict(arguments)
        self._failures = dict(failures or {})
        self._counts = {*counts, *self._failures}
        self._load = functools.cache(self._opened)

    def available(self) -> bool:
        """Whether the library is in use; the first call may compile it, which takes a few seconds."""
        return is_wanted() and isinstance(self._load(), ctypes.CDLL)

    def why_not(self) -> str | None:
        """Why it is not in use; None where it is."""
        if not is_wanted():
            return "MICROTOME_NATIVE is 0"
        loaded = self._load()
        return None if isinstance(loaded, ctypes.CDLL) else loaded

    def forget(self) -> None:
        """Look for the library again at the next call."""
        self._load.cache_clear()

    def call(self, name: str, *arguments: object) -> int:
        """One function. Tensors and arrays are passed by address: contiguous, on the CPU, and kept alive by the caller."""
        library = self._load()
        assert isinstance(library, ctypes.CDLL)
        found = getattr(library, f"microtome_{name}")(*map(_passed, arguments))
        if name in self._failures and found < 0:
            raise self._failures[name](f"the compiled kernel {name} returned {found}")
        return found or 0

    def _opened(self) -> ctypes.CDLL | str:
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
            library = ctypes.CDLL(str(self._built(compiler, processor)))
        except (OSError, subprocess.SubprocessError) as error:
            return f"{compiler} could not build them: {error}"
        for name, arguments in self._arguments.items():
            function = getattr(library, f"microtome_{name}")
            function.argtypes = arguments
            function.restype = INTEGER if name in self._counts else None
        return library

    def _built(self, compiler: str, processor: str) -> Path:
        """The library in the cache, under a name made of everything it depends on; compiled into place whole if it is not there.

        It is code, so the folder must be this user's (or root's) and is closed to writers, and a library that others could have written is made anew.
        """
        version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
        parts = [*((self._home / name).read_text() for name in self._sources), " ".join(_FLAGS), version, processor]
        name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
        file = cache_dir() / "kernels" / f"{self._name}-{name}.so"
        file.parent.mkdir(parents=True, exist_ok=True)
        if not _is_ours(file.parent):
            if file.parent.stat().st_uid != os.getuid():
                raise PermissionError(f"{file.parent} belongs to another user: set MICROTOME_CACHE to a folder of your own")
            file.parent.chmod(0o755)
        if file.exists() and _is_ours(file):
            return file
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:
            built = Path(folder) / file.name
            sources = [str(self._home / name) for name in self._sources if name.endswith(".c")]
            subprocess.run([compiler, *_FLAGS, *sources, "-o", str(built), "-lm"], capture_output=True, check=True, timeout=120)
            built.chmod(0o755)
            built.replace(file)
        return file


def spread(task: Callable[[int, int], object], total: int, *, grain: int, parts_a_worker: int = 8) -> None:
    """Run `task(first, last)` over parts of range(total), each a multiple of `grain` long, on torch's number of threads, of which this is one."""
    workers = torch.get_num_threads()
    parts = 1 if workers == 1 else parts_a_worker * workers
    size = max(grain, -(-total // (parts * grain)) * grain)
    bounds = iter([(first, min(first + size, total)) for first in range(0, total, size)])

    def work() -> None:
        for first, last in bounds:  # whoever is free takes the next part
            task(first, last)

    helpers = [_pool(os.getpid(), workers).submit(work) for _ in range(min(workers, -(-total // size)) - 1)]
    try:
        work()
    finally:  # a helper that has not begun finds no part left
        failures = [helper.exception() for helper in helpers if not helper.cancel()]
    for failure in filter(None, failures):
        raise failure


@functools.lru_cache(maxsize=1)
def _pool(process: int, workers: int) -> ThreadPoolExecutor:
    """Of one process: a fork has none of its parent's threads."""
    return ThreadPoolExecutor(workers, thread_name_prefix=f"microtome-{process}")


def _passed(value: object) -> object:
    if isinstance(value, Tensor):
        return value.data_ptr()
    return value.ctypes.data if isinstance(value, np.ndarray) else value


def _processor() -> str:
    """Model and features, as the kernel names them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    first = {key.strip(): value for key, _, value in (line.partition(":") for line in itertools.takewhile(bool, lines))}
    return f"{first.get('model name', '')} {first.get('flags', '')}"


def _is_ours(path: Path) -> bool:
    """Whether only this user, or root, can have written it."""
    status = path.stat()
    return status.st_uid in {os.getuid(), 0} and not status.st_mode & 0o022
