"""The command line: `metastyle adapt`, `stylise`, `video`, `params`, `replay`."""

import argparse
import logging
import sys
from pathlib import Path
from typing import get_args

import yaml
from tqdm import tqdm

from metastyle import images, project, splits, video
from metastyle.adaptation import Adaptation, adapt
from metastyle.allocator import keep_freed_memory
from metastyle.checkpoint import load_network, save_network
from metastyle.errors import InputError
from metastyle.files import replacing
from metastyle.losses import Perceptual
from metastyle.params import MADE, load, read
from metastyle.replay import replay
from metastyle.transformer import stylise
from metastyle.vgg import Precision, load_vgg


def adapt_command(a: argparse.Namespace) -> None:
    root, inputs, _ = project.paths(a.params)
    data = read(a.params, "data", splits.Data)
    perceptual = read(a.params, "perceptual", Perceptual)
    settings = read(a.params, "adapt", Adaptation)
    given = {name: getattr(a, name) for name in ("updates", "precision")}
    settings = settings.model_copy(update={k: v for k, v in given.items() if v is not None})
    style = images.load(a.painting, settings.style_size)
    start = load_network(inputs / "meta_train" / "network.safetensors")
    features = load_vgg(root / data.vgg, perceptual.feature_scale)
    photos = splits.read(inputs / "splits.csv", data, root)
    photos = photos["photo/inner"] + photos["photo/outer"]
    with tqdm(total=settings.updates, unit="update") as bar:
        network, _ = adapt(
            start, style, photos, features, perceptual, settings,
            callback=lambda done, _: bar.update(done - bar.n),
        )  # fmt: skip
    info = {"style": a.painting.name, "adaptation": settings.model_dump()}
    save_network(a.network, dict(network.named_parameters()), info)


def stylise_command(a: argparse.Namespace) -> None:
    network = load_network(a.network)
    images.save(a.out, stylise(network, images.load(a.photo)))


def video_command(a: argparse.Namespace) -> None:
    network = load_network(a.network)
    clip = video.describe(a.clip)
    with video.writer(a.out, clip.rate) as write:
        frames = video.frames(a.clip, a.height)
        for frame in tqdm(frames, total=clip.length or None, unit="frame"):
            write(stylise(network, frame))


def params_command(a: argparse.Namespace) -> None:
    values = load(a.file)
    paths = read(a.file, "paths", project.Paths)
    # Stages of the pipeline write where later ones read; only a notebook run by hand does not.
    values["paths"]["outputs"] = str(paths.inputs)
    with replacing(project.root(a.file) / "params.yaml") as temporary:
        head = f"{MADE}{a.file}; 'git checkout params.yaml' brings the reference run's back.\n"
        temporary.write_text(head + yaml.safe_dump(values, sort_keys=False))


def replay_command(a: argparse.Namespace) -> None:
    table = replay(a.params, a.iterations)
    sys.stdout.write(table.to_string(float_format="{:.6g}".format) + "\n")
    worst = table["difference"].abs().max()
    if not worst <= a.tolerance:
        raise InputError(
            f"{a.params}: the stored run's losses differ by up to {worst:.2g}, more than "
            f"{a.tolerance:g}; it was made by other code or data, run 'dvc repro -f meta_train'"
        )


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="metastyle", description="Restyle photos with a painting.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    sub = commands.add_parser("adapt", help="adapt the style-neutral network to a painting")
    sub.add_argument("painting", type=Path, help="image file of the style")
    sub.add_argument("network", type=Path, help="where to write the adapted .safetensors")
    sub.add_argument("--updates", type=int, help="number of updates (default: params.yaml)")
    sub.add_argument(
        "--precision", choices=get_args(Precision), help="of VGG-16; bfloat16 is "
        "quicker on a processor with instructions for it (default: params.yaml)",
    )  # fmt: skip
    sub.add_argument("--params", type=Path, default=Path("params.yaml"), help="parameter file")
    sub.set_defaults(run=adapt_command)

    sub = commands.add_parser("stylise", help="restyle one photo with an adapted network")
    sub.add_argument("network", type=Path, help="file written by 'metastyle adapt'")
    sub.add_argument("photo", type=Path, help="image file of any size")
    sub.add_argument("out", type=Path, help="where to write the image, e.g. out.png")
    sub.set_defaults(run=stylise_command)

    sub = commands.add_parser("video", help="restyle a clip, frame by frame, without its sound")
    sub.add_argument("network", type=Path, help="file written by 'metastyle adapt'")
    sub.add_argument("clip", type=Path, help="video file of any length")
    sub.add_argument("out", type=Path, help="where to write the video, e.g. out.mp4")
    sub.add_argument("--height", type=int, help="in pixels (default: the clip's)")
    sub.set_defaults(run=video_command)

    sub = commands.add_parser("params", help="make a parameter file the pipeline's params.yaml")
    sub.add_argument("file", type=Path, help="e.g. params/paper.yaml")
    sub.set_defaults(run=params_command)

    sub = commands.add_parser("replay", help="compute the stored run's first iterations again")
    sub.add_argument("--iterations", type=int, default=20, help="how many (default: 20)")
    sub.add_argument("--tolerance", type=float, default=1e-2, help="relative (default: 0.01)")
    sub.add_argument("--params", type=Path, default=Path("params.yaml"), help="parameter file")
    sub.set_defaults(run=replay_command)
    return top


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    arguments = parser().parse_args()
    keep_freed_memory()
    try:
        arguments.run(arguments)
    except InputError as error:
        sys.exit(f"metastyle: {error}")


if __name__ == "__main__":
    main()
