"""Shared pieces: the project's real data and parameters, opened once."""

import os
import tempfile
from pathlib import Path

import pytest

from metastyle.config import Project
from metastyle.core import device, splits
from metastyle.core.device import Compute
from metastyle.core.losses import load_loss

ROOT = Path(__file__).resolve().parents[1]
SMOKE = ROOT / "params" / "smoke.yaml"

# Training states of a test run are its own; the notebooks' kernels inherit this.
os.environ["METASTYLE_CACHE"] = tempfile.mkdtemp(prefix="metastyle-")
device.use(Compute(device="cpu"))  # as params/smoke.yaml says


@pytest.fixture(scope="session")
def project():
    return Project(SMOKE)


@pytest.fixture(scope="session")
def loss(project):
    return load_loss(project)


@pytest.fixture(scope="session")
def vgg(loss):
    return loss.vgg


@pytest.fixture(scope="session")
def sets(project, tmp_path_factory):
    table = tmp_path_factory.mktemp("splits") / "splits.csv"
    splits.write(splits.make(project), table)
    return splits.read(project, table)
