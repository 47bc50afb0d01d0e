"""SAELens' mixing buffer on rows in memory: `saelens_buffer.py n d buffer batch seconds`. Runs in bench/peers/saelens/.venv."""

import itertools
import json
import sys
import time
import warnings
from collections.abc import Iterator

warnings.filterwarnings("ignore")

import torch  # noqa: E402
from mixing import mixing  # noqa: E402
from sae_lens.training.mixing_buffer import mixing_buffer  # noqa: E402

n, d, buffer, batch = (int(each) for each in sys.argv[1:5])
torch.set_num_threads(2)
x = torch.randn(n, d, generator=torch.Generator().manual_seed(0))
x[:, 0] = torch.arange(n)


def feed() -> Iterator[torch.Tensor]:
    while True:
        yield from x.split(4096)


batches = mixing_buffer(buffer, batch, feed())
mixed = mixing([each[:, 0].clone() for each in itertools.islice(batches, n // batch)], n)
start, rows = time.perf_counter(), 0
while time.perf_counter() - start < float(sys.argv[5]):
    for _ in range(buffer // 2 // batch):  # what one mixing serves
        rows += len(next(batches))
print(json.dumps({"rows_s": rows / (time.perf_counter() - start), "mixing": mixed}))
