"""Several processes at one training: the same gradients and weights, and a death survived."""

import math
import multiprocessing
import os
import socket
import subprocess
import sys

import pytest
import small_training
import torch
from conftest import ROOT
from safetensors.torch import load_file, save_file

from metastyle.core import images
from metastyle.core.network import new_network, stylise
from metastyle.meta.distributed import ALONE, Ranks, joined
from metastyle.meta.train import COLUMNS

# Processes are forks of one that has imported torch but not used it.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["metastyle.meta.train"])


def work(rank: int, size: int, port: int, folder, out) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with joined() as ranks:
        assert ranks == Ranks(rank, size)
        gradient = small_training.first_gradient(folder, ranks)
        state = small_training.train(folder, ranks)
        real = small_training.real_network(folder, ranks)
    found = {f"small/{name}": t.detach() for name, t in state.theta.items()}
    found |= {f"average/{name}": t.detach() for name, t in state.average.items()}
    found |= {f"real/{name}": t.detach() for name, t in real.theta.items()}
    log = torch.tensor(state.log, dtype=torch.float64)
    save_file(found | {"gradient": gradient, "log": log}, out / f"{size} {rank}.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    small_training.small_images(folder)
    return folder


@pytest.fixture(scope="module")
def found(folder):
    """What each process of one, two and four came to, by their number."""
    running = []
    for size in (1, 2, 4):
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            port = listening.getsockname()[1]
        running += [
            PROCESSES.Process(target=work, args=(rank, size, port, folder, folder))
            for rank in range(size)
        ]
    for process in running:
        process.start()
    for process in running:
        process.join(60)
        assert process.exitcode == 0
    return {
        size: [load_file(folder / f"{size} {rank}.safetensors") for rank in range(size)]
        for size in (1, 2, 4)
    }


def flat(tensors, kind):
    return torch.cat([t.flatten() for n, t in sorted(tensors.items()) if n.startswith(kind)])


def test_any_number_of_processes_has_the_same_gradient(found):
    (one,) = found[1]
    sizes = 127 + 9  # parameters and what is told
    assert one["gradient"].dtype == torch.float64 and one["gradient"].numel() == sizes
    for several in (found[2], found[4]):
        for other in several:
            assert torch.equal(other["gradient"], several[0]["gradient"])
            gradient, expected = other["gradient"][:127], one["gradient"][:127]
            assert (gradient - expected).norm() < 1e-9 * expected.norm()
            torch.testing.assert_close(other["gradient"], one["gradient"], rtol=1e-6, atol=0)


def test_any_number_of_processes_ends_with_the_same_weights(found):
    (one,) = found[1]
    assert one["log"].shape == (20, len(COLUMNS))
    for several in (found[2], found[4]):
        for other in several:
            for kind in ("small", "average"):
                expected = flat(one, kind)
                assert (flat(other, kind) - expected).norm() < 1e-9 * expected.norm()
            for kind in ("small", "real", "log"):  # ranks agree to the last bit
                same = flat(other, kind), flat(several[0], kind)
                assert torch.equal(*(t.nan_to_num(-1) for t in same))
            torch.testing.assert_close(
                other["log"], one["log"], rtol=1e-4, atol=1e-6, equal_nan=True
            )


def test_any_number_of_processes_makes_the_same_images_in_float32(found, folder):
    photo, made = images.load(folder / "00.png"), {}
    for size, several in found.items():
        network = new_network(0)
        weights = {n.removeprefix("real/"): t for n, t in several[0].items() if "real/" in n}
        network.load_state_dict(weights)
        made[size] = stylise(network, photo).mul(255).round().int()
        assert weights["layers.0.weight"].dtype == torch.float32
    before = stylise(new_network(0), photo).mul(255).round().int()
    assert (made[1] - before).abs().max() > 5
    assert max((made[1] - made[size]).abs().max() for size in (2, 4)) <= 1


def test_a_process_alone_is_the_whole(monkeypatch, folder):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined() as ranks:
        assert ranks is ALONE and ranks.first
    assert [*Ranks(1, 3).styles(8)] == [1, 4, 7] and [*Ranks(3, 4).styles(2)] == []
    assert torch.equal(ALONE.summed(torch.ones(2)), torch.ones(2))


def test_a_rank_without_a_style_adds_nothing(folder):
    whole = small_training.first_gradient(folder, Ranks(7, 1))
    assert not whole.any() and not math.isnan(whole.sum())


@pytest.mark.pipeline
def test_a_killed_rank_leaves_no_trace(found, folder, tmp_path):
    small_training.small_images(tmp_path)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "--max-restarts", "1", "--monitor-interval", "0.1"]
    command += [str(ROOT / "tests" / "small_training.py"), str(tmp_path), "9"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    options = {"env": environment, "capture_output": True, "text": True, "timeout": 100}
    done = subprocess.run(command, **options, check=False)
    assert done.returncode == 0, done.stderr
    assert "(exitcode: -9)" in done.stderr
    state, undisturbed = load_file(tmp_path / small_training.STATE), found[2][0]
    for name, expected in undisturbed.items():
        kind, _, rest = name.partition("/")
        kind = {"small": "parameter", "average": "average"}.get(kind)
        if kind:
            assert torch.equal(state[f"{kind}/{rest}"], expected), name
    assert torch.equal(*(t.nan_to_num(-1) for t in (state["run/log"], undisturbed["log"])))
