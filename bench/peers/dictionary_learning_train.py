"""dictionary_learning's own trainer on given rows: `dictionary_learning_train.py rows.npy d_dict steps topk|batchtopk`.

Runs in bench/peers/dictionary_learning/.venv. Its imports of packages that the trainers do not use are stubbed.
"""

import sys
import time
import warnings
from importlib.util import find_spec
from unittest.mock import MagicMock

warnings.filterwarnings("ignore")
for name in ("nnsight", "datasets", "wandb", "tqdm", "transformers", "transformer_lens", "umap", "plotly", "zstandard", "einops"):
    if find_spec(name) is None:
        sys.modules[name] = MagicMock()
if isinstance(sys.modules.get("tqdm"), MagicMock):
    sys.modules["tqdm"].tqdm = lambda batches, **_: batches

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
