"""SAELens' own trainer on given rows: `saelens_topk.py rows.npy d_dict steps [autocast]`. Runs in bench/peers/saelens/.venv."""

import os
import sys
import time
import warnings

warnings.filterwarnings("ignore")
os.environ.setdefault("WANDB_MODE", "disabled")

import torch  # noqa: E402
from lap import BATCH, LR, K, Laps, Run, report  # noqa: E402
from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig  # noqa: E402
from sae_lens.config import LoggingConfig, SAETrainerConfig  # noqa: E402
from sae_lens.training.sae_trainer import SAETrainer  # noqa: E402

run = Run.from_argv(sys.argv)
torch.manual_seed(0)
sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=run.train.shape[1], d_sae=run.d_dict, k=K))
config = SAETrainerConfig(
    total_training_samples=BATCH * run.steps,
    train_batch_size_samples=BATCH,
    lr=LR,
    lr_end=LR,
    lr_decay_steps=run.steps - 1,
    autocast="autocast" in sys.argv,
    logger=LoggingConfig(log_to_wandb=False),
)
laps = Laps(run.train)
SAETrainer(cfg=config, sae=sae, data_provider=laps).fit()
times = [*laps.times, time.perf_counter()][: run.steps + 1]
sae.eval()
report(times, run, lambda rows: sae(rows).detach())
