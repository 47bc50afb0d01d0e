"""Memory that batches of a trace are made in, used again and again by the thread that made it."""

import math
import threading
from typing import final

import torch

from microtome.shapes import Float, Tensor


@final
class Scratch(threading.local):
    """One buffer a name in each thread, as large as the largest that was asked for; what was in it is gone when it is taken again.

    A batch's tensors are some megabytes each. Taken from the system every time, their pages are cleared for longer than most sums over them take;
    left to the allocator, they come to lie between the edges that stay, and twice as much is held as is used.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int, like: Tensor) -> Float[Tensor, "..."]:
        """A tensor of that shape with anything in it, of the number type and device of another."""
        size, kept = math.prod(shape), self._kept.get(name)
        if kept is None or len(kept) < size or (kept.dtype, kept.device) != (like.dtype, like.device):
            self._kept.pop(name, None)
            kept = self._kept[name] = torch.empty(size, dtype=like.dtype, device=like.device)
        return kept[:size].view(shape)
