"""dictionary_learning's own trainer on given rows: `dictionary_learning_train.py rows.npy d_dict steps topk|batchtopk`.

Runs in bench/peers/dictionary_learning/.venv.
"""

import sys
import time
import warnings

warnings.filterwarnings("ignore")

import torch  # noqa: E402
from dictionary_learning import training  # noqa: E402
from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer  # noqa: E402
from dictionary_learning.trainers.top_k import TopKTrainer  # noqa: E402
from lap import Laps, Run, report  # noqa: E402

run = Run.from_argv(sys.argv)
kept: list[torch.nn.Module] = []


class Kept(BatchTopKTrainer if run.architecture == "batchtopk" else TopKTrainer):
    """The trainer itself, remembered, since `trainSAE` does not return it."""

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)
        kept.append(self.ae)


laps = Laps(run.train)
settings = {
    "trainer": Kept,
    "steps": run.steps,
    "activation_dim": run.train.shape[1],
    "dict_size": run.d_dict,
    "k": run.k,
    "lr": run.lr,
    "layer": 0,
    "lm_name": "rows",
    "warmup_steps": 0,
    "decay_start": 1,
    "device": "cpu",
    "seed": 0,
}
training.trainSAE(data=laps, trainer_configs=[settings], steps=run.steps, device="cpu")
times = [*laps.times, time.perf_counter()][: run.steps + 1]
ae = kept[0]
by_batch = {"use_threshold": False} if run.architecture == "batchtopk" else {}
report(times, run, lambda rows: ae.decode(ae.encode(rows, **by_batch)))
