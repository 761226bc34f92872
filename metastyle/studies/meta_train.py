"""Chapter 2a: the meta-training, and the files that it leaves. Chapter 2 shows them."""

import shutil
from pathlib import Path

from tqdm import tqdm

from metastyle.config import Project
from metastyle.core import splits
from metastyle.core.cache import cache_folder
from metastyle.core.checkpoint import load_network, save_network
from metastyle.core.losses import REPORT, PerceptualLoss, load_loss
from metastyle.core.network import TransformerNet
from metastyle.files import write_json, write_table
from metastyle.meta import distributed
from metastyle.meta.loader import Images, MetaTraining, training_images
from metastyle.meta.train import Result, key, result, training


def run(project: Project) -> Result:
    """Meta-train; write the network, those kept on the way, the log and what it cost to results."""
    settings, loss = MetaTraining.read(project, "meta_train"), load_loss(project)
    images, start = training_images(splits.read(project)), start_of(project, settings)
    if settings.processes > 1:
        state = cache_folder() / key(settings, images, loss, start) / "state.safetensors"
        distributed.launch(project.params, state, settings.processes)
    found = train(settings, images, loss, start)  # of the processes' run, what they left
    write(project.outputs / "meta_train", found, settings, loss)
    return found


def start_of(project: Project, settings: MetaTraining) -> TransformerNet | None:
    """The network of `MetaTraining.start`; None where the run begins with a random one."""
    return load_network(project.root / settings.start) if settings.start else None


def train(
    settings: MetaTraining,
    images: Images,
    loss: PerceptualLoss,
    start: TransformerNet | None = None,
) -> Result:
    """`training` under a progress bar, going on from a state that an earlier process left."""
    states = training(settings, images, loss, start=start, folder=cache_folder())
    state = next(states)
    done = {"initial": len(state.log), "total": settings.iterations}
    with tqdm(states, **done, unit="it", mininterval=10) as bar:
        for state in bar:
            bar.set_postfix(loss=f"{state.log[-1][1]:.1f}", refresh=False)
    return result(state)


def write(folder: Path, found: Result, settings: MetaTraining, loss: PerceptualLoss) -> None:
    """Write network.safetensors, snapshots/, log.csv, metrics.json (medians over the iterations
    that were averaged) and run.json (hours, all sittings together, and the machines)."""
    info = {
        "settings": settings.model_dump(mode="json"),
        "perceptual": loss.settings.model_dump(mode="json"),
    }
    save_network(folder / "network.safetensors", dict(found.network.named_parameters()), info)
    shutil.rmtree(folder / "snapshots", ignore_errors=True)
    for iteration, parameters in found.snapshots.items():
        file = folder / "snapshots" / f"{iteration:06d}.safetensors"
        save_network(file, parameters, info, small=True)
    write_table(folder / "log.csv", found.log, float_format="%.6g")
    last = found.log.tail(max(1, settings.average_last))
    medians = last[[*REPORT, "support_change"]].median().dropna()
    write_json(folder / "metrics.json", {k: float(f"{v:.4g}") for k, v in medians.items()})
    hours = float(f"{found.seconds / 3600:.3g}")
    write_json(folder / "run.json", {"hours": hours, "machines": found.machines})


def check(found: Result) -> None:
    """Print loss, content term and norm of the meta-gradient of the first iteration, before
    anything was learnt, to two figures."""
    first = found.log[["loss", "content", "gradient_norm"]].iloc[0]
    print(first.map("{:#.2g}".format).to_string())
