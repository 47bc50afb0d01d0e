"""sparsify's own trainer on given rows: `sparsify_train.py rows.npy d_dict steps topk`. Runs in bench/peers/sparsify/.venv.

It trains from a model's forward; the model here has one layer that hands on the stored rows which the token ids name.
"""

import sys
import tempfile
import time
import types

import torch
from lap import BATCH, Run, report
from sparsify import SparseCoderConfig, TrainConfig, Trainer

CONTEXT = 128
run = Run.from_argv(sys.argv)


class StoredRows(torch.nn.Module):
    """Looks like a Hugging Face model with one hookable layer."""

    def __init__(self) -> None:
        super().__init__()
        self.hook = torch.nn.Identity()
        self.config = types.SimpleNamespace(num_hidden_layers=1)
        self.device = torch.device("cpu")
        self.nothing = torch.nn.Parameter(torch.zeros(1))

    @property
    def base_model(self) -> "StoredRows":
        return self

    @property
    def dummy_inputs(self) -> dict[str, torch.Tensor]:
        return {"input_ids": torch.zeros(1, CONTEXT, dtype=torch.long)}

    def forward(self, input_ids: torch.Tensor, **_: object) -> torch.Tensor:
        first = int(input_ids.flatten()[0])
        return self.hook(run.train[first : first + input_ids.numel()].view(*input_ids.shape, -1))


class Positions:
    """A dataset whose contexts are consecutive positions; the time is noted at the first of each batch."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __len__(self) -> int:
        return run.steps * BATCH // CONTEXT

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        if number % (BATCH // CONTEXT) == 0:
            self.times.append(time.perf_counter())
        at = number % (len(run.train) // BATCH * BATCH // CONTEXT) * CONTEXT
        return {"input_ids": torch.arange(at, at + CONTEXT)}


torch.manual_seed(0)
positions = Positions()
config = TrainConfig(
    SparseCoderConfig(num_latents=run.d_dict, k=run.k),
    batch_size=BATCH // CONTEXT,
    optimizer="adam",
    lr=run.lr,
    lr_warmup_steps=0,
    hookpoints=["hook"],
    log_to_wandb=False,
    save_every=10**9,
    save_dir=tempfile.mkdtemp(),
    run_name="bench",
)
trainer = Trainer(config, positions, StoredRows())
trainer.save = lambda: None  # its checkpoint stays out of the timing
trainer.fit()
times = [*positions.times, time.perf_counter()]
sae = next(iter(trainer.saes.values()))
sae.set_decoder_norm_to_unit_norm()
report(times, run, lambda rows: sae(rows).sae_out)
