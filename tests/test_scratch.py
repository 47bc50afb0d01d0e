"""Memory that is taken again and again."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import torch

from microtome.devices import Scratch


def test_the_same_memory_is_given_while_it_is_large_enough() -> None:
    scratch, like = Scratch(), torch.zeros(0)
    first = scratch.take("a", 4, 6, like=like)
    assert first.shape == (4, 6)
    assert scratch.take("a", 2, 3, like=like).data_ptr() == first.data_ptr()
    assert scratch.take("b", 4, 6, like=like).data_ptr() != first.data_ptr()
    larger = scratch.take("a", 5, 6, like=like)
    assert larger.numel() == 30
    assert scratch.take("a", 4, 6, like=like).data_ptr() == larger.data_ptr()
    assert scratch.take("a", 3, like=like.double()).dtype == torch.float64
    assert scratch.take("a", 0, 7, like=like).shape == (0, 7)


def test_threads_do_not_share() -> None:
    scratch, both = Scratch(), Barrier(2)

    def fill(value: float) -> bool:
        mine = scratch.take("a", 1000, like=torch.zeros(0)).fill_(value)
        both.wait()
        return bool((mine == value).all())

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(fill, (1.0, 2.0)))
