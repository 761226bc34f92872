"""Shared pieces: the project's real data and parameters, opened once."""

import os
import tempfile
from pathlib import Path

import pytest

from metastyle.core import splits
from metastyle.core.losses import Perceptual
from metastyle.config import read
from metastyle.core.vgg import load_vgg

ROOT = Path(__file__).resolve().parents[1]
SMOKE = ROOT / "params" / "smoke.yaml"

# Training states of a test run are its own; the notebooks' kernels inherit this.
os.environ["METASTYLE_CACHE"] = tempfile.mkdtemp(prefix="metastyle-")


@pytest.fixture(scope="session")
def data():
    return read(SMOKE, "data", splits.Data)


@pytest.fixture(scope="session")
def perceptual():
    return read(SMOKE, "perceptual", Perceptual)


@pytest.fixture(scope="session")
def vgg(data, perceptual):
    return load_vgg(ROOT / data.vgg, perceptual.feature_scale)


@pytest.fixture(scope="session")
def sets(data, tmp_path_factory):
    table = tmp_path_factory.mktemp("splits") / "splits.csv"
    splits.write(splits.make(data, ROOT), table)
    return splits.read(table, data, ROOT)
