"""The card tells what the network was made from."""

from pathlib import Path

import pandas as pd
from conftest import SMOKE

from metastyle.core.losses import Perceptual
from metastyle.core.network import new_network
from metastyle.meta.loader import Images, MetaTraining
from metastyle.studies import model_card

MACHINES = [
    {"processor": "a processor", "accelerator": "none", "torch": "2", "precision": "float32",
     "processes": 1, "first": 1, "last": 2},
    {"processor": "a processor", "accelerator": "a GPU", "torch": "2", "precision": "bfloat16",
     "processes": 2, "first": 3, "last": 1003},
]  # fmt: skip


def test_the_card_counts_what_the_network_saw():
    parameters = dict(new_network(0).named_parameters())
    phases = [
        {"iterations": 8000, "size": 128, "inner_steps": 0},
        {"iterations": 2, "size": 256, "inner_steps": 1, "inner_learning_rate": 1e-4,
         "inner_warmup": 1, "order": "first"},
    ]  # fmt: skip
    settings = MetaTraining.read(SMOKE, "meta_train").changed(phases=phases, start="data/one")
    sources = pd.DataFrame({"file": ["photos/a.jpg", "art/x.png"], "licence_class": ["CC0", "PD"]})
    images = Images([Path("a.jpg"), Path("b.jpg"), Path("c.jpg")], [Path("d.jpg")], [Path("x.png")])
    log = pd.DataFrame({"loss": [3.0, 1.0, 2.0]})
    given = parameters, log, settings, Perceptual.read(SMOKE, "perceptual"), images, sources
    made = model_card.markdown(*given, hours=1.5, machines=MACHINES)
    for part in (
        "1,679,235 parameters",
        model_card.fingerprint(parameters)[:16],
        "from data/one, inner parameters all; iterations 1 to 8,000: joint (no inner step), 128 px",
        "; iterations 8,001 to 8,002: T = 1, δ = 0.0001, first order, δ rising over 1 iterations, ",
        "| 3 outer iterations of 2 style(s) with 1 + 1 photos |",
        "variant release, style weight 100000, range penalty 10, spike penalty 0.5; ",
        "| 1.5 h; iterations 1 to 2 on a processor (float32, PyTorch 2); iterations 3 to 1,003 on "
        "a GPU in 2 processes (bfloat16, PyTorch 2) |",
        "outer loss over the last 2 iterations 1.5 |",
        "| 4: 3 not in the list of sources, 1 CC0 |",
        "| 1: 1 PD |",
    ):
        assert part in made
    assert "note" not in made
    random = settings.changed(start=None)
    made = model_card.markdown(*given[:2], random, *given[3:], hours=1.5, machines=MACHINES)
    assert "from a random start, " in made
    assert "| note | twice |" in model_card.markdown(*given, hours=1, machines=[], note="twice")


def test_the_fingerprint_is_of_the_values():
    one, same, other = (dict(new_network(seed).named_parameters()) for seed in (0, 0, 1))
    assert model_card.fingerprint(one) == model_card.fingerprint(same)
    assert model_card.fingerprint(one) != model_card.fingerprint(other)
