"""The command line: `metastyle adapt`, `stylise`, `video`, `params`, `replay`.

Modules that compute are imported when their command runs, so that help comes at once.
"""

import argparse
import logging
import sys
from pathlib import Path
from typing import NoReturn, get_args

from metastyle.config import BACK, MADE, InputError, Paths, Precision, Project, included, load
from metastyle.files import replacing


class Misuse(Exception):
    """Wrong options; one line."""


class Parser(argparse.ArgumentParser):
    """One that says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see '{self.prog} --help'\n")


def adapt_command(a: argparse.Namespace) -> None:
    from tqdm import tqdm

    from metastyle.adaptation.adapt import Adaptation, adapt_steps
    from metastyle.core import images, splits
    from metastyle.core.checkpoint import load_neutral, save_network
    from metastyle.core.losses import load_loss

    project = Project(a.params)
    given = {name: getattr(a, name) for name in ("updates", "precision")}
    given = {name: value for name, value in given.items() if value is not None}
    settings = Adaptation.read(project, "adapt")
    try:
        settings = settings.changed(**given)
    except InputError as error:
        raise Misuse(f"adapt: --{error}") from None
    style = images.load(a.painting, settings.style_size)
    start = load_neutral(project)
    photos = splits.read(project).photos.train
    steps = adapt_steps(start, style, photos, load_loss(project), settings)
    with tqdm(total=settings.updates, unit="update") as bar:
        for step in steps:
            bar.update(step.update - bar.n)
    info = {"style": a.painting.name, "adaptation": settings.model_dump()}
    save_network(a.network, dict(step.network.named_parameters()), info)


def stylise_command(a: argparse.Namespace) -> None:
    from metastyle.core import images
    from metastyle.core.checkpoint import load_network
    from metastyle.core.network import stylise

    images.save(a.out, stylise(load_network(a.network), images.load(a.photo)))


def video_command(a: argparse.Namespace) -> None:
    from tqdm import tqdm

    from metastyle.adaptation import video
    from metastyle.core.checkpoint import load_network
    from metastyle.core.network import stylise

    network = load_network(a.network)
    clip = video.describe(a.clip)
    with video.writer(a.out, clip.rate) as write:
        frames = video.frames(a.clip, a.height)
        for frame in tqdm(frames, total=clip.length or None, unit="frame"):
            write(stylise(network, frame))


def params_command(a: argparse.Namespace) -> None:
    import yaml

    root, values = Project(a.file).root, load(a.file)
    # Stages of the pipeline write where later ones read; only a notebook run by hand does not.
    values["paths"]["outputs"] = str(Paths.read(a.file, "paths").inputs)
    head = f"{MADE}{a.file}; '{BACK}' brings the reference run's back.\n"
    own = yaml.safe_load((root / "params.yaml").read_text())
    for name in included(root / "params.yaml", own):
        sections = yaml.safe_load((root / name).read_text())
        part = {section: values.pop(section) for section in sections}
        with replacing(root / name) as temporary:
            temporary.write_text(head + yaml.safe_dump(part, sort_keys=False))
    # Another size has nothing that waits for the reference run.
    values = {"include": included(root / "params.yaml", own)} | values | {"pending": []}
    lines = (root / "dvc.yaml").read_text().splitlines(keepends=True)
    with replacing(root / "dvc.yaml") as temporary:
        temporary.write_text("".join(line for line in lines if line.strip() != "frozen: true"))
    with replacing(root / "params.yaml") as temporary:
        temporary.write_text(head + yaml.safe_dump(values, sort_keys=False))


def replay_command(a: argparse.Namespace) -> None:
    from metastyle.meta.replay import Tolerance, replay, tolerance

    project = Project(a.params)
    allowed = Tolerance(a.tolerance, "--tolerance") if a.tolerance is not None else None
    allowed = allowed or tolerance(project, a.iterations)
    table = replay(project, a.iterations)
    sys.stdout.write(table.to_string(float_format="{:.6g}".format) + "\n")
    sys.stdout.write(f"tolerance: {allowed.value:g} ({allowed.reason})\n")
    worst = table["difference"].abs().max()
    if not worst <= allowed.value:
        raise InputError(
            f"{a.params}: the stored run's losses differ by up to {worst:.2g}, more than "
            f"{allowed.value:g}; it was made by other code or data, run 'dvc repro -f meta_train'"
        )


def parser() -> argparse.ArgumentParser:
    top = Parser(prog="metastyle", description="Restyle photos with a painting.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    sub = commands.add_parser("adapt", help="adapt the style-neutral network to a painting")
    sub.add_argument("painting", type=Path, help="image file of the style")
    sub.add_argument("network", type=Path, help="where to write the adapted .safetensors")
    sub.add_argument("--updates", type=int, help="number of updates (default: params.yaml)")
    sub.add_argument(
        "--precision", choices=get_args(Precision), help="of convolutions; bfloat16 is "
        "quicker where there are instructions for it (default: params.yaml)",
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
    sub.add_argument(
        "--tolerance", type=float, help="relative (default: 0.01; more for a GPU or bfloat16)"
    )
    sub.add_argument("--params", type=Path, default=Path("params.yaml"), help="parameter file")
    sub.set_defaults(run=replay_command)
    return top


def main(arguments: list[str] | None = None) -> None:
    """Run a command; exit 1 with one line for bad input, 2 for misuse."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    a = parser().parse_args(arguments)
    if a.run in (adapt_command, stylise_command, video_command):
        from metastyle.core.allocator import keep_freed_memory

        keep_freed_memory()
    try:
        a.run(a)
    except InputError as error:
        sys.exit(f"metastyle: {error}")
    except Misuse as error:
        sys.stderr.write(f"metastyle {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
