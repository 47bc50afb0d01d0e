"""The exact top-k of wide rows equals torch's own, over shapes, k and number types."""

import pytest
import torch

from microtome.dictionaries.kernels.topk import top_k


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("shape", [(3, 8, 2), (5, 1024, 32), (4, 1024, 100), (6, 1003, 7), (2, 5, 9)])
def test_top_k_keeps_the_largest_values(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    n, width, k = shape
    pre = torch.randn(n, width, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = top_k(pre, k)
    assert all(len(set(row)) == min(k, width) for row in found.tolist())
    kept = pre.gather(1, found).sort(dim=1, descending=True).values
    assert torch.equal(kept, pre.topk(min(k, width), dim=1).values)
