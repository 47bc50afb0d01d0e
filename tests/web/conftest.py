"""The small workspace, an application over it, and a real server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from microtome.artifacts import Workspace
from microtome.features import FeatureIndex
from microtome.models import Model, tiny
from microtome.progress import Progress
from microtome.web import create_app
from tests.web.graphs import make_graphs
from tests.web.serving import serving
from tests.web.small import INDEX, make_workspace


@pytest.fixture(scope="session")
def model() -> Model:
    return tiny("llama", seed=3)


@pytest.fixture(scope="session")
def workspace(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    make_workspace(folder, model)
    return folder


@pytest.fixture(scope="session")
def index(workspace: Path) -> FeatureIndex:
    place = Workspace(workspace)
    return FeatureIndex.open(place.find("index", INDEX), place)


@pytest.fixture(scope="session")
def circuits(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with graphs, and the feature index of what they are made of."""
    folder = tmp_path_factory.mktemp("circuits")
    make_graphs(folder, model)
    return folder


@pytest.fixture(scope="session")
def app(workspace: Path, model: Model) -> FastAPI:
    def loader(ref: str, progress: Progress) -> Model:
        progress("reading weights", 1, 2)
        return model

    return create_app(workspace, model_loader=loader)


@pytest.fixture(scope="session")
def client(app: FastAPI) -> TestClient:
    return TestClient(app, base_url="http://127.0.0.1")


@pytest.fixture(scope="session")
def served(app: FastAPI) -> Iterator[str]:
    """The address of a real server over the workspace."""
    with serving(app) as address:
        yield address
