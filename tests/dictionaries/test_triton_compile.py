"""The Triton kernels compile for real GPUs. That needs Triton's compiler but no GPU; only running them does (`pytest -m gpu`)."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

SHARED_BYTES = {80: 163 * 1024, 90: 227 * 1024}
"""Shared memory of a program on A100 and H100 (CUDA C programming guide, compute capabilities)."""
SIZES = {"bias": "*fp32", "n": "i32", "d_dict": "i32", "width": "i32"}


def test_kernels_compile_and_fit(tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="Triton is published for Linux only")
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kernels = json.loads(done.stdout)
    assert len(kernels) == 8
    assert {kernel["capability"] for kernel in kernels} == {80, 90}
    for kernel in kernels:
        assert kernel["shared_bytes"] <= SHARED_BYTES[kernel["capability"]], kernel
        assert kernel["spills"] == 0, kernel
        assert kernel["tensor_cores"] == kernel["bf16"], kernel


def main() -> None:
    """Compile the kernels as launches with rows of 16-byte alignment would, and print what came out."""
    from microtome.dictionaries.kernels import triton_encode, triton_sums

    maxima = {"maxima": "*fp32", "x": "*bf16", "table": "*bf16", **SIZES, "groups": "i32"}
    bits = {"bits": "*u8", "counts": "*i32", "x": "*bf16", "table": "*bf16", **SIZES, "low": "*fp32", "slack": "*fp32", "size": "*fp32"}
    rescore = {"pre": "*fp32", "x": "*fp32", "table": "*fp32", "bias": "*fp32", "chosen": "*i64", "kept": "i32", "d_dict": "i32", "width": "i32"}
    expand = {"found": "*i64", "bits": "*u8", "ends": "*i64", "counts": "*i32", "across": "i32"}
    dots = {"out": "*fp32", "rows": "*fp32", "table": "*fp32", "row": "*i64", "feature": "*i64", "pairs": "i32", "width": "i32"}
    sums = {"out": "*fp32", "table": "*fp32", "index": "*i64", "weight": "*fp32", "begin": "*i64", "end": "*i64", "slot": "*i64", "width": "i32"}
    tile = {"ROWS": 128, "FEATURES": 128, "DEPTH": 64, "WIDEN": False}
    small = {"ROWS": 64, "FEATURES": 64, "DEPTH": 32, "WIDEN": False}
    groups = {"ABSOLUTE": True, "GROUP": 16}
    made = [
        compiled(triton_encode._maxima_kernel, maxima, constants=tile | groups, warps=8),
        compiled(triton_encode._maxima_kernel, maxima, constants=tile | groups, warps=8, capability=80),
        compiled(triton_encode._maxima_kernel, maxima | {"x": "*fp32", "table": "*fp32"}, constants=small | groups, warps=8),
        compiled(triton_encode._bits_kernel, bits, constants=tile, warps=8),
        compiled(triton_encode._rescore_kernel, rescore, constants={"GROUP": 16, "SLOTS": 4, "DEPTH": 64}),
        compiled(triton_encode._expand_kernel, expand, constants={"FEATURES": 128, "TILES": 16}),
        compiled(triton_sums._row_dots_kernel, dots, constants={"PAIRS": 16, "COLUMNS": 256}),
        compiled(triton_sums._segment_sums_kernel, sums, constants={"PAIRS": 8, "COLUMNS": 512}),
    ]
    print(json.dumps(made))


def compiled(kernel: object, types: dict[str, str], *, constants: Mapping[str, object], warps: int = 4, capability: int = 90) -> dict[str, object]:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names: list[str] = getattr(kernel, "arg_names")  # noqa: B009  # Triton publishes no types
    signature = {name: "constexpr" if name in constants else types[name] for name in names}
    aligned = [place for place, name in enumerate(names) if signature[name].startswith("*") or name in ("width", "groups")]
    source = ASTSource(
        fn=kernel,
        signature=signature,
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(place,): [["tt.divisibility", 16]] for place in aligned},
    )
    binary = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": warps})
    assembly = str(binary.asm["ptx"])
    return {
        "kernel": getattr(kernel, "__name__", ""),
        "capability": capability,
        "bf16": types.get("x") == "*bf16",
        "shared_bytes": binary.metadata.shared,
        "spills": assembly.count("st.local"),
        "tensor_cores": "wgmma.mma_async" in assembly or "mma.sync" in assembly,
    }


if __name__ == "__main__":
    main()
