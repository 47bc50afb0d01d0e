"""The compiled kernels: the exact top-k on odd rows too, the same on any number of threads, and torch where they are missing."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from microtome import compiled
from microtome.dictionaries.kernels import Proposer, decode, feature_sums, native, pairs_above, pick_product, row_dots, top_k_pairs
from microtome.errors import ShapeMismatch

N, D_IN, D_DICT, K = 192, 200, 1500, 16
COMPILED = pytest.mark.skipif(not native.available(), reason=f"no compiled kernels here: {native.why_not()}")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def odd_rows(kind: str) -> torch.Tensor:
    x = normal(N, D_IN, seed=1)
    match kind:
        case "skewed columns":
            x *= torch.exp(2 * normal(D_IN, seed=2))
        case "a far constant column":
            x[:, 5] += 1000
        case "one huge entry a row":
            x[torch.arange(N), torch.arange(N) % D_IN] *= 300
        case "heavy tails":
            x = x**3
        case "tiny":
            x *= 1e-30
        case "huge":
            x *= 1e15
        case _:
            pass
    return x


@pytest.fixture
def fresh() -> Iterator[None]:
    """The library is looked for again, in the test and after it."""
    native.LIBRARY.forget()
    yield
    native.LIBRARY.forget()


@COMPILED
@pytest.mark.parametrize("kind", ["normal", "skewed columns", "a far constant column", "one huge entry a row", "heavy tails", "tiny", "huge"])
@pytest.mark.parametrize("biased", [False, True])
def test_it_finds_the_exact_top_k(kind: str, biased: bool) -> None:
    """Of the N K = 3,072 pairs at most two differ from fp64's; a product in bf16 alone misses about one in a hundred."""
    x, W = odd_rows(kind), normal(D_DICT, D_IN, seed=3) * torch.exp(0.5 * normal(D_DICT, 1, seed=4))
    b = x.abs().mean() * normal(D_DICT, seed=5) if biased else torch.zeros(D_DICT)
    pairs, values = top_k_pairs(x, W, b, k=K, proposer=Proposer(W, "int8"))
    pre = x.double() @ W.double().T + b.double()
    wanted = pre.topk(K, dim=1).values
    found = pre[pairs.row, pairs.feature].view(N, K).sort(dim=1, descending=True).values
    size = pre.abs().amax(1, keepdim=True)
    assert int(((wanted - found) > 1e-5 * size).sum()) <= 2
    torch.testing.assert_close(values.view(N, K).double() / size, pre[pairs.row, pairs.feature].view(N, K) / size, rtol=0, atol=1e-5)


@COMPILED
@pytest.mark.parametrize("absolute", [False, True])
def test_what_rows_before_were_like_changes_no_choice(absolute: bool) -> None:
    """Rows made of features come first, so the guess is far too high for the noise after them; alone, a row has no guess at all."""
    W, b = normal(D_DICT, D_IN, seed=3), normal(D_DICT, seed=5)
    made = W[torch.arange(96 * 60).view(96, 60) % D_DICT].sum(1)
    x, proposer = torch.cat([made, normal(96, D_IN, seed=1), normal(96, D_IN, seed=2) ** 3]), Proposer(W, "int8")
    together = top_k_pairs(x, W, b, k=K, proposer=proposer, absolute=absolute)
    alone = [top_k_pairs(row[None], W, b, k=K, proposer=proposer, absolute=absolute) for row in x]
    assert torch.equal(together.pairs.feature, torch.cat([each.pairs.feature for each in alone]))
    assert torch.equal(together.pre, torch.cat([each.pre for each in alone]))


@COMPILED
def test_pairs_above_misses_none_near_the_bound() -> None:
    x, W, b = odd_rows("skewed columns"), normal(D_DICT, D_IN, seed=3), normal(D_DICT, seed=5)
    pre = x @ W.T + b
    bound = pre.flatten().kthvalue(int(0.98 * pre.numel())).values.expand(D_DICT)
    chosen = pairs_above(x, W, b, bound=bound, proposer=Proposer(W, "int8"))
    assert len(chosen.pre) == pytest.approx(int((pre > bound).sum()), abs=2)
    assert float((chosen.pre - pre[chosen.pairs.row, chosen.pairs.feature]).abs().max()) < 1e-3


@COMPILED
@pytest.mark.parametrize("rows", ["zero", "constant", "nan", "inf", "overflowing"])
def test_degenerate_rows_get_k_features_and_show_in_the_values(rows: str) -> None:
    x, W = normal(N, D_IN, seed=1), normal(D_DICT, D_IN, seed=3)
    x[:50] = {"zero": 0.0, "constant": 2.0, "nan": float("nan"), "inf": float("inf"), "overflowing": 3e38}[rows]
    pairs, pre = top_k_pairs(x, W, torch.zeros(D_DICT), k=K, proposer=Proposer(W, "int8"))
    assert all(len(set(row)) == K for row in pairs.feature.view(N, K).tolist())
    assert bool(pre[: 50 * K].isfinite().all()) == (rows in {"zero", "constant"})
    torch.testing.assert_close(pre[50 * K :].view(-1, K).sort(dim=1, descending=True).values, (x[50:] @ W.T).topk(K).values, rtol=1e-4, atol=1e-4)


@COMPILED
def test_results_do_not_depend_on_the_number_of_threads() -> None:
    x, W, table = normal(1000, D_IN, seed=1), normal(D_DICT, D_IN, seed=3), normal(D_DICT, D_IN, seed=4)

    def everything() -> list[torch.Tensor]:
        pairs, pre = top_k_pairs(x, W, torch.zeros(D_DICT), k=K, proposer=Proposer(W, "int8"))
        above = pairs_above(x, W, torch.zeros(D_DICT), bound=torch.full((D_DICT,), 30.0), proposer=Proposer(W, "int8"))
        sums = [decode(pairs, pre, table), row_dots(pairs, x, table), feature_sums(pairs, pre, x)]
        return [pairs.feature, pre, above.pairs.indptr, above.pairs.feature, above.pre, *sums]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = everything()
        torch.set_num_threads(3)
        together = everything()
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


@COMPILED
def test_any_layout_of_the_tensors_is_taken() -> None:
    wide, W = normal(64, 2 * D_IN + 1, seed=1), normal(D_IN, D_DICT, seed=3).T
    x = wide[:, 1::2]
    pairs, pre = top_k_pairs(x, W, torch.zeros(D_DICT), k=K, proposer=Proposer(W, "int8"))
    torch.testing.assert_close(pre, (x @ W.T)[pairs.row, pairs.feature], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(feature_sums(pairs, pre, x), pairs.dense(pre).T @ x, rtol=1e-4, atol=1e-3)


@COMPILED
def test_the_proposer_follows_the_weights() -> None:
    x, W, b = normal(N, D_IN, seed=1), normal(D_DICT, D_IN, seed=3), torch.zeros(D_DICT)
    proposer = Proposer(W, "int8")
    top_k_pairs(x, W, b, k=K, proposer=proposer)
    W.copy_(normal(D_DICT, D_IN, seed=6))
    proposer.refresh(W)
    _, pre = top_k_pairs(x, W, b, k=K, proposer=proposer)
    torch.testing.assert_close(pre.view(N, K).sort(dim=1, descending=True).values, (x @ W.T).topk(K).values, rtol=1e-4, atol=1e-4)


def test_without_it_an_int8_proposer_computes_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROTOME_NATIVE", "0")
    assert not native.available()
    assert native.why_not() == "MICROTOME_NATIVE is 0"
    assert pick_product(torch.device("cpu")) in {"float32", "bfloat16"}
    x, W = normal(8, D_IN, seed=1), normal(D_DICT, D_IN, seed=3)
    _, pre = top_k_pairs(x, W, torch.zeros(D_DICT), k=K, proposer=Proposer(W, "int8"))
    assert torch.equal(pre.view(8, K).sort(dim=1).values, (x @ W.T).topk(K).values.sort(dim=1).values)


@pytest.mark.usefixtures("fresh")
def test_without_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert not native.available()
    assert native.why_not() is not None


@COMPILED
@pytest.mark.usefixtures("fresh")
def test_a_compiler_that_fails_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "cc"
    broken.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\nexit 1\n')
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    monkeypatch.setenv("MICROTOME_CACHE", str(tmp_path / "cache"))
    assert not native.available()
    assert "could not build" in (native.why_not() or "")


@COMPILED
def test_two_processes_may_build_it_at_once(tmp_path: Path) -> None:
    code = "from microtome.dictionaries.kernels import native; import sys; sys.exit(not native.available())"
    environment = {"MICROTOME_CACHE": str(tmp_path), "PATH": "/usr/local/bin:/usr/bin:/bin"}
    both = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert [file.suffix for file in (tmp_path / "kernels").iterdir()] == [".so"]


@COMPILED
@pytest.mark.usefixtures("fresh")
def test_a_library_that_others_could_have_written_is_not_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is compiled anew, in a folder that is closed to them; a folder of another user's is left alone."""
    monkeypatch.setenv("MICROTOME_CACHE", str(tmp_path))
    assert native.available()
    (built,) = (tmp_path / "kernels").iterdir()
    good = built.read_bytes()
    built.unlink()  # a library that is in use must not be written into
    built.write_bytes(b"planted")
    built.chmod(0o777)
    built.parent.chmod(0o777)
    native.LIBRARY.forget()
    assert native.available()
    assert len(built.read_bytes()) == len(good)
    assert not (built.stat().st_mode | built.parent.stat().st_mode) & 0o022
    monkeypatch.setattr(compiled.os, "getuid", lambda: built.stat().st_uid + 1)
    if built.stat().st_uid:
        native.LIBRARY.forget()
        assert "another user" in (native.why_not() or "")


@COMPILED
def test_a_proposer_takes_no_encoder_of_another_shape() -> None:
    proposer = Proposer(normal(D_DICT, D_IN), "int8")
    with pytest.raises(ShapeMismatch):
        proposer.refresh(normal(2 * D_DICT, D_IN))


OUT_OF_MEMORY = """
import ctypes, resource, sys, time
import torch
from microtome.dictionaries.kernels import Proposer, pairs_above

class Heap(ctypes.Structure):  # struct mallinfo2
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks mapped usmblks fsmblks used fordblks keepcost".split()]

allocated = ctypes.CDLL(None).mallinfo2
allocated.restype = Heap

def megabytes():
    heap = allocated()
    return (heap.mapped + heap.used) >> 20

torch.set_num_threads(int(sys.argv[1]))
W_enc, b_enc, bound = torch.randn(512, 8), torch.zeros(512), torch.full((512,), -1e9)
proposer, x = Proposer(W_enc, "int8"), torch.randn(60_000, 8)
pairs_above(x[:200], W_enc, b_enc, bound=bound, proposer=proposer)
before = megabytes()
size = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (size + 2**28, -1))
for _ in range(2):
    try:
        pairs_above(x, W_enc, b_enc, bound=bound, proposer=proposer)
        sys.exit("there was enough memory")
    except MemoryError:
        pass
until = time.monotonic() + 20  # parts in other threads may still be at work
while megabytes() - before > 32 and time.monotonic() < until:
    time.sleep(0.1)
print(megabytes() - before)
"""


@COMPILED
@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_choice_that_finds_no_memory_keeps_none(threads: str) -> None:
    ended = subprocess.run([sys.executable, "-c", OUT_OF_MEMORY, threads], check=False, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) <= 32
