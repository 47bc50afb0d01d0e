"""SAELens' own trainer on given rows: `saelens_train.py rows.npy d_dict steps topk|batchtopk [k=32] [lr=0.001] [save=FILE] [autocast]`.

Runs in bench/peers/saelens/.venv.
"""

import os
import sys
import time
import warnings

warnings.filterwarnings("ignore")
os.environ.setdefault("WANDB_MODE", "disabled")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from lap import BATCH, Laps, Run, report  # noqa: E402
from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, TopKTrainingSAE, TopKTrainingSAEConfig  # noqa: E402
from sae_lens.config import LoggingConfig, SAETrainerConfig  # noqa: E402
from sae_lens.training.sae_trainer import SAETrainer  # noqa: E402

run = Run.from_argv(sys.argv)
torch.manual_seed(0)
d_in = run.train.shape[1]
if run.architecture == "batchtopk":
    sae = BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(d_in=d_in, d_sae=run.d_dict, k=run.k))
else:
    sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=d_in, d_sae=run.d_dict, k=run.k))
config = SAETrainerConfig(
    total_training_samples=BATCH * run.steps,
    train_batch_size_samples=BATCH,
    lr=run.lr,
    lr_end=run.lr,
    lr_decay_steps=run.steps - 1,
    autocast="autocast" in sys.argv,
    logger=LoggingConfig(log_to_wandb=False),
)
laps = Laps(run.train)
SAETrainer(cfg=config, sae=sae, data_provider=laps).fit()
times = [*laps.times, time.perf_counter()][: run.steps + 1]
sae.eval()
if run.save is not None:
    weights = {"W_enc": sae.W_enc.T, "W_dec": sae.W_dec, "b_enc": sae.b_enc, "b_dec": sae.b_dec}
    np.savez(run.save, **{name: weight.detach().contiguous().numpy() for name, weight in weights.items()})
report(times, run, lambda rows: sae(rows).detach())
