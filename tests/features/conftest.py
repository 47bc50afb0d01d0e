"""One small store for the tests of this room, and a folder that can be locked."""

import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from microtome.features import FeatureIndex
from tests.features.small_set import MadeSet, make_set
from tests.features.small_store import D_DICT, SITE, Made, make, random_sae


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="session")
def index(made: Made) -> FeatureIndex:
    return made.build("small")


@pytest.fixture(scope="session")
def dense(made: Made) -> npt.NDArray[np.float32]:
    """Brute force: every activation of every feature, [n_tokens, d_dict], as the store rounds them; 0 where a token is not kept."""
    sae = random_sae(made.model.width(SITE))
    found = np.zeros((made.corpus.n_tokens, D_DICT), dtype=np.float32)
    for shard, (start, end) in enumerate(made.shards.ranges):
        block = made.shards.block(shard, SITE)
        codes = sae.encode(block.x.float())
        full = torch.zeros(end - start, D_DICT).scatter_(1, codes.indices.long(), codes.values)
        found[start:end] = (full * block.keep[:, None]).half().float().clamp(min=0).numpy()
    return found


@pytest.fixture
def locked_folder() -> Generator[Path]:
    """A folder outside of pytest's own (which others may not enter) for `tests.features.locked.lock`."""
    root, folder = os.geteuid() == 0, Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def layers(made: Made) -> MadeSet:
    return make_set(made)


@pytest.fixture(scope="session")
def cross(made: Made) -> MadeSet:
    return make_set(made, cross=True)


@pytest.fixture(scope="session")
def layers_index(layers: MadeSet) -> FeatureIndex:
    return layers.build("layers")


@pytest.fixture(scope="session")
def cross_index(cross: MadeSet) -> FeatureIndex:
    return cross.build("cross")


@pytest.fixture(scope="session")
def free(made: Made) -> MadeSet:
    """Without competition: ReLU."""
    return make_set(made, relu=True)


@pytest.fixture(scope="session")
def free_index(free: MadeSet) -> FeatureIndex:
    return free.build("free")
