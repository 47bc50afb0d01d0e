"""What this machine's cores can reach at most, beside which figures stand."""

import time

import torch

from microtome.devices import core_workers


def product_limit(rows: int, width: int, out: int) -> float:
    """GFLOP/s of one float32 product [rows, width] by [width, out] on every core at once, by oneDNN or torch, whichever is faster here."""
    x, weight = torch.randn(rows, width), torch.randn(out, width)
    arranged = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
    ways = (lambda: torch.ops.mkldnn._linear_pointwise(x, arranged, None, "none", [], ""), lambda: torch.mm(x, weight.T))

    def multiply(_: int) -> float:
        best = float("inf")
        for way in ways:
            for _ in range(50):
                start = time.perf_counter()
                way()
                best = min(best, time.perf_counter() - start)
        return 2 * rows * width * out / best / 1e9

    with core_workers(x.device) as run_all:
        return sum(run_all(multiply, range(torch.get_num_threads())))
