"""Devices, threads, memory and the words for the machine a figure was measured on."""

import ctypes
import functools
import math
import os
import platform
import resource
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar, final, runtime_checkable

from microtome.errors import ConfigError, nearest

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16")
A = TypeVar("A")
R = TypeVar("R")


def quiet_threads() -> None:
    """Make idle OpenMP threads sleep instead of spin; call before torch is imported.

    With other work on the machine, spinning threads make a 65 ms forward take seconds. A value the user set is kept.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def pick_device(name: str = "auto") -> "torch.device":
    """`auto` takes CUDA, then Apple's GPU, then the CPU; any other name is torch's own (`cpu`, `cuda:1`)."""
    import torch

    if name != "auto":
        try:
            return torch.device(name)
        except RuntimeError as error:
            raise ConfigError(
                f'there is no device "{name}".', got=name, wanted="auto, cpu, cuda, cuda:N, mps", do=str(error).splitlines()[0]
            ) from error
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def pick_dtype(name: str) -> "torch.dtype":
    """`float32`, `bfloat16` or `float16` as torch's type."""
    import torch

    if name not in DTYPES:
        raise ConfigError(f'there is no dtype "{name}".', got=name, wanted=", ".join(DTYPES), do=nearest(name, DTYPES))
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def peak_memory_bytes() -> int:
    """The largest resident size of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def machine() -> str:
    """One line for the side of a figure: CPU, cores, accelerator, torch and Python versions."""
    import torch

    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{_cpu_name()}, {os.cpu_count()} cores, {accelerator}, torch {torch.__version__}, Python {platform.python_version()}"


def cache_dir() -> Path:
    """Where converted models and downloaded packages are kept: `$MICROTOME_CACHE`, else the user's cache folder + `microtome`."""
    chosen = os.environ.get("MICROTOME_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "microtome"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


@runtime_checkable
class RunAll(Protocol):
    """Applies a function to many arguments; the results come in the order in which they are ready."""

    def __call__(self, call: Callable[[A], R], arguments: Iterable[A], /) -> Iterator[R]: ...


_LOCK = threading.Lock()
_KEEPING: list[None] = []
"""One for each `memory_kept` that has not ended."""
_MALLOC = {"trim_threshold": -1, "mmap_threshold": -3, "mmap_max": -4}
"""Numbers of glibc's settings, from its malloc.h."""
_KEPT_TOP = (1 << 31) - 1
"""Bytes free at the end of the heap from which on it is trimmed: the largest number that the setting holds."""
_RESERVED = 1900 << 20
"""By as much the heap grows beforehand; less than `_KEPT_TOP`, or it would shrink again."""
_MADV_HUGEPAGE = 14


@contextmanager
def memory_kept() -> Generator[None]:
    """Memory that is freed meanwhile stays with this process and is used again; at the end it goes back. With glibc; elsewhere nothing changes.

    A large tensor is otherwise fresh memory each time: the system clears it page by page, which takes longer than most sums over it. Pages are large
    where Linux has them to give: rows that are read here and there in tables of many megabytes are found faster.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    with _LOCK:
        _KEEPING.append(None)
        if len(_KEEPING) == 1:
            libc.mallopt(_MALLOC["mmap_max"], 0)
            libc.mallopt(_MALLOC["trim_threshold"], _KEPT_TOP)
            _ask_for_large_pages(libc)
    try:
        yield
    finally:
        with _LOCK:
            _KEEPING.pop()
            if not _KEEPING:
                libc.mallopt(_MALLOC["mmap_max"], 65_536)
                libc.mallopt(_MALLOC["mmap_threshold"], 32 << 20)
                libc.mallopt(_MALLOC["trim_threshold"], 64 << 20)  # where glibc's own rule would have taken both by now
                libc.malloc_trim(0)


def give_back_memory() -> None:
    """Give memory that was freed back to the system; what was kept of it by `memory_kept` lies in pieces, which no later array fits."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _ask_for_large_pages(libc: ctypes.CDLL) -> None:
    """For the heap as it will be: it grows first, by addresses alone. What it has already keeps its small pages."""
    libc.free(libc.malloc(_RESERVED))  # nothing is written to it; where it is refused, free takes None
    maps = Path("/proc/self/maps").read_text().splitlines()
    heap = next((line for line in maps if line.endswith("[heap]")), None)
    if heap is not None:
        start, end = (int(address, 16) for address in heap.split(maxsplit=1)[0].split("-"))
        libc.madvise(start, end - start, _MADV_HUGEPAGE)  # a kernel without large pages refuses, and nothing is lost


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    """The C library, where it is glibc."""
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return None
    library = ctypes.CDLL(None)
    if not (hasattr(library, "mallopt") and hasattr(library, "malloc_trim")):
        return None
    library.malloc.argtypes, library.malloc.restype = (ctypes.c_size_t,), ctypes.c_void_p
    library.free.argtypes, library.free.restype = (ctypes.c_void_p,), None
    library.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return library


@final
class Scratch(threading.local):
    """Memory that work in batches is done in: one buffer a name in each thread, as large as the largest that was asked for.

    What was in it is gone when it is taken again. A batch's tensors are some megabytes each. Taken from the system every time, their pages are
    cleared for longer than most sums over them take; left to the allocator, they come to lie between what stays, and twice as much is held as is
    used.
    """

    def __init__(self) -> None:
        self._kept: dict[str, torch.Tensor] = {}

    def take(self, name: str, *shape: int, like: "torch.Tensor") -> "torch.Tensor":
        """A tensor of that shape with anything in it, of the number type and device of another."""
        import torch

        size, kept = math.prod(shape), self._kept.get(name)
        if kept is None or len(kept) < size or (kept.dtype, kept.device) != (like.dtype, like.device):
            self._kept.pop(name, None)
            kept = self._kept[name] = torch.empty(size, dtype=like.dtype, device=like.device)
        return kept[:size].view(shape)


@contextmanager
def core_workers(device: "torch.device") -> Generator[RunAll]:
    """For forwards of a model, and steps of many learners: on a CPU, as many threads as torch would use, each with torch confined to itself;
    elsewhere the calling thread.

    Cores that share one forward wait for each other at every product, which costs a quarter of their time. Results do not depend on their number.
    """
    import torch

    cores = torch.get_num_threads()
    if device.type != "cpu" or cores == 1:
        yield map
        return
    pool = ThreadPoolExecutor(cores, thread_name_prefix="core", initializer=torch.set_num_threads, initargs=(1,))

    def run_all(call: Callable[[A], R], arguments: Iterable[A]) -> Iterator[R]:
        return (future.result() for future in as_completed([pool.submit(call, each) for each in arguments]))

    try:
        yield run_all
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(cores)  # a worker's own number becomes that of threads begun later
