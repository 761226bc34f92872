"""One start adapted by two yardsticks: this project's VGG-16, and the Caffe weights that it used.

    python tools/compare_yardsticks.py vgg16_caffe.safetensors --out yardsticks

The old weights (Simonyan and Zisserman's own, of Caffe, filters in RGB order, names as in
data/vgg16.safetensors) are no longer in data/; they saw RGB in 0..255 minus a mean, and the old
loss scaled their activations so that the style weight was 1e4. Everything else is the same on
both sides: the start, the photos' crops, Adam. No penalty for spikes is added on either side.

Writes OUT.jpg, the validation paintings with a validation photo in their styles, and OUT.json,
the recipe and what LPIPS and AlexNet say of the images. An adaptation that is done is kept
(METASTYLE_CACHE), so that a call that was stopped goes on. The defaults take about forty
minutes of two cores.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from metastyle import plots
from metastyle.adaptation.adapt import Adaptation, adapt, evaluate
from metastyle.config import Project
from metastyle.core import cache, images, splits
from metastyle.core.checkpoint import load_network
from metastyle.core.losses import PerceptualLoss, load_loss
from metastyle.core.network import TransformerNet, stylise
from metastyle.core.vgg import VGG16
from metastyle.evaluation.lpips import load_alexnet, lpips, statistics, style_distance
from metastyle.files import write_json

SCALE = 0.01735  # of the old activations
MEAN = (123.68, 116.779, 103.939)  # RGB, 0..255
OLD = {"style_weight": 1e4, "range_weight": 100.0, "spike_weight": 0.0}
NEW = {"spike_weight": 0.0}
RECIPE = {
    "learning_rate": 1e-3,
    "warmup": 0,
    "schedule": "constant",
    "parameters": "all",
    "precision": "float32",
}


class CaffeInput(nn.Module):
    """RGB in [0, 1] as the old weights saw it; scaling it, and every bias, scales every layer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        return (255 * pictures - self.mean) * SCALE


def old_loss(weights: Path, new: PerceptualLoss) -> PerceptualLoss:
    """The loss of the first reference run."""
    tensors = load_file(weights)
    scaled = {k: SCALE * t if k.endswith("bias") else t for k, t in tensors.items()}
    vgg = VGG16(scaled)
    vgg.normalised = CaffeInput()
    return PerceptualLoss(vgg.to(new.device), new.settings.changed(**OLD))


def adapted(
    start: TransformerNet,
    painting: Path,
    photos: Sequence[Path],
    loss: PerceptualLoss,
    settings: Adaptation,
) -> TransformerNet:
    """The start after the updates, kept."""

    def compute() -> dict[str, Tensor]:
        style = images.load(painting, settings.style_size)
        return dict(adapt(start, style, photos, loss, settings).named_parameters())

    decides = start, painting, list(photos), loss.vgg, loss.settings, settings
    key = cache.key(*decides, by=[adapt.__module__])
    file = cache.cache_folder() / "yardsticks" / f"{key}.safetensors"
    network = TransformerNet()
    network.load_state_dict(cache.kept_tensors(file, compute))
    return network.to(loss.device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("weights", type=Path, help="the old ones, safetensors")
    parser.add_argument("--params", default="params.yaml")
    parser.add_argument("--start", type=Path, default=Path("data/first_run.safetensors"))
    parser.add_argument("--out", type=Path, default=Path("yardsticks"))
    places = {"type": int, "nargs": "+", "default": [0, 1, 2], "help": "validation ones, from 0"}
    parser.add_argument("--paintings", **places)
    parser.add_argument("--photo", type=int, default=0, help="validation photo, from 0")
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--size", type=int, default=256, help="pixels, of everything")
    parser.add_argument("--batch", type=int, default=1, help="photos of an update")
    a = parser.parse_args()

    project = Project(a.params)
    sets, titles = splits.read(project), splits.listed(project)["title"]
    given = {"updates": a.updates, "contents_per_batch": a.batch, "sizes": [a.size]}
    settings = Adaptation.read(project, "adapt").changed(**RECIPE, **given, style_size=a.size)
    loss = load_loss(project).changed(**NEW)
    yardsticks = {"old": old_loss(a.weights, loss), "new": loss}
    alexnet = load_alexnet(project.root / splits.Data.read(project, "data").alexnet)

    start, file = load_network(a.start), sets.photos.validation[a.photo]
    photo = images.load_square(file, a.size)
    rows, found = [], {}
    paintings = [sets.artworks.validation[k] for k in a.paintings]
    for painting in paintings:
        style = images.load(painting, a.size)
        wanted, target = statistics(style, alexnet), loss.style(style.to(loss.device))
        row = [images.load_square(painting, a.size), photo]
        found[painting.name] = {}
        for name, yardstick in {"start": None, **yardsticks}.items():
            network = start
            if yardstick is not None:
                network = adapted(start, painting, sets.photos.train, yardstick, settings)
            picture = stylise(network, photo)
            found[painting.name][name] = {
                "new loss": evaluate(network, photo, target, loss)["loss"],
                "lpips": lpips(picture, photo, alexnet).item(),
                "alexnet": style_distance(statistics(picture, alexnet), wanted).item(),
            }
            row.append(picture)
            print(painting.name, name, found[painting.name][name], flush=True)
        rows.append(row)
    columns = ["painting", "photo", "start", "old yardstick", "new yardstick"]
    labels = [titles[painting].split(" - ")[0] for painting in paintings]
    figure = plots.grid(rows, columns=columns, labels=labels, cell=2.6)
    figure.savefig(a.out.with_suffix(".jpg"), pil_kwargs={"quality": 90})
    recipe = {
        "start": a.start.name,
        "photo": file.name,
        "adaptation": settings.model_dump(mode="json"),
        "old": yardsticks["old"].settings.model_dump(mode="json") | {"scale": SCALE},
        "new": loss.settings.model_dump(mode="json"),
        "images": found,
    }
    write_json(a.out.with_suffix(".json"), recipe)


if __name__ == "__main__":
    main()
