"""Several processes at one training, started by torchrun: gloo on processors, NCCL on GPUs.

Every draw is a function of iteration and style, so that it does not matter who works on a style:
style k of an iteration is that of rank k modulo their number. The sums of gradients are added up
by one all-reduce, and every rank then takes Adam's step for itself.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from metastyle.core import device
from metastyle.core.code import ROOT


class Ranks(NamedTuple):
    """Which of how many processes this one is."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that reads, logs and saves."""
        return self.rank == 0

    def styles(self, count: int) -> range:
        """This process's styles of so many."""
        return range(self.rank, count, self.size)

    def summed(self, part: Tensor) -> Tensor:
        """The sum of what all processes have, in place; the same on each to the last bit."""
        if self.size > 1:
            dist.all_reduce(part)
        return part

    def read(self, file: Path | None, load: Callable[[Path], None]) -> None:
        """Let every process load a file that only the first needs to have, where there is one."""
        content = None
        if self.first and file is not None and file.is_file():
            load(file)
            content = file.read_bytes() if self.size > 1 else None
        if self.size == 1:
            return
        box = [content]
        dist.broadcast_object_list(box)
        if not self.first and box[0] is not None:
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder) / file.name
                copy.write_bytes(box[0])
                load(copy)


ALONE = Ranks()


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the processes that torchrun started; without it this one is alone.

    After a restart torchrun's store still has the addresses of the processes before (PyTorch's
    issue 135712), so that each life has names of its own. Several nodes do not count lives alike;
    there torchrun needs TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 to go on after a death.
    """
    if "WORLD_SIZE" not in os.environ:
        yield ALONE
        return
    on = device.chosen()
    if on.type == "cuda":
        torch.cuda.set_device(on)
    store, rank, size = next(dist.rendezvous("env://"))
    if os.environ.get("GROUP_WORLD_SIZE") == "1":
        store = dist.PrefixStore(f"life {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    backend = "cpu:gloo,cuda:nccl" if on.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    try:
        yield Ranks(rank, size)
    finally:
        dist.destroy_process_group()


def launch(params: Path, state: Path, processes: int) -> None:
    """Train in so many processes on this machine until the run is finished; see `meta.command`.

    Args:
        params: parameter file. state: file to go on from and to write.

    Raises:
        RuntimeError: they failed, and did so after three restarts.
    """
    torchrun = ["torch.distributed.run", "--standalone", "--max-restarts", "3"]
    torchrun += ["--nproc-per-node", str(processes)]
    program = ["metastyle.meta.train", str(params), "--state", str(state)]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", *torchrun, "-m", *program]
    if subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, check=False).returncode:
        raise RuntimeError("the processes of the training failed; their messages are above")
