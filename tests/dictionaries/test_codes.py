"""Sparse codes convert between their two forms without loss."""

import numpy as np
import torch
from scipy.sparse import csr_array

from microtome.dictionaries import SAE, SparseCodes, TopK
from microtome.models import Site


def dense(codes: SparseCodes) -> torch.Tensor:
    return torch.zeros(codes.rows, codes.d_dict).scatter_add(1, codes.indices, codes.values)


def test_csr_holds_the_active_pairs_in_ascending_order() -> None:
    codes = SparseCodes(torch.tensor([[5, 2, 0], [1, 1, 3]]), torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 4.0]]), 6)
    csr = codes.to_csr()
    assert csr.indptr.tolist() == [0, 2, 3]
    assert csr.indices.tolist() == [2, 5, 3]
    assert csr.values.tolist() == [2.0, 1.0, 4.0]
    assert (codes.rows, codes.nnz) == (2, 3)


def test_csr_equals_scipys() -> None:
    generator = torch.Generator().manual_seed(0)
    indices = torch.stack([torch.randperm(50, generator=generator)[:7] for _ in range(20)])
    values = torch.randn(20, 7, generator=generator).relu()
    codes = SparseCodes(indices, values, 50)
    theirs = csr_array(dense(codes).numpy())
    mine = codes.to_csr()
    np.testing.assert_array_equal(mine.indptr, theirs.indptr)
    np.testing.assert_array_equal(mine.indices, theirs.indices)
    np.testing.assert_array_equal(mine.values, theirs.data)
    assert torch.equal(dense(SparseCodes.from_csr(mine, d_dict=50)), dense(codes))


def test_no_rows_and_no_active_pairs() -> None:
    empty = SparseCodes(torch.zeros(0, 3, dtype=torch.int64), torch.zeros(0, 3), 4)
    assert empty.to_csr().indptr.tolist() == [0]
    silent = SparseCodes(torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3), 4)
    back = SparseCodes.from_csr(silent.to_csr(), d_dict=4)
    assert (back.rows, back.nnz) == (2, 0)


def test_silent_rows_decode_to_what_the_dictionary_gives_for_nothing() -> None:
    weights = {"W_enc": torch.eye(4), "W_dec": torch.eye(4), "b_enc": torch.zeros(4), "b_dec": torch.arange(4.0)}
    sae = SAE(site=Site("resid_post", 0), nonlinearity=TopK(k=2), weights=weights, input_scale=2.0)
    silent = SparseCodes(torch.zeros(3, 2, dtype=torch.int64), torch.zeros(3, 2), 4)
    decoded = sae.decode(SparseCodes.from_csr(silent.to_csr(), d_dict=4))
    torch.testing.assert_close(decoded, torch.arange(4.0).div(2).expand(3, 4))
