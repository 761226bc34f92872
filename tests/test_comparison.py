"""Which pairs are compared, what is kept of them, and the rule for claim C5."""

from copy import deepcopy
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from conftest import ROOT

from metastyle.config import InputError, Project
from metastyle.core import images, splits
from metastyle.core.crops import pairs
from metastyle.core.losses import PerceptualLoss
from metastyle.evaluation import claims, metrics
from metastyle.evaluation.metrics import MEASURES
from metastyle.evaluation.statistics import Interval
from metastyle.files import write_json
from metastyle.studies import comparison
from metastyle.studies._standing import INDEPENDENT, claim, standing
from metastyle.studies.comparison import against
from metastyle.studies.images import (
    ANCHORS,
    Comparison,
    deviation,
    measured,
    rendered,
    renderings,
)


@pytest.fixture(scope="module")
def settings(project):
    small = Comparison.read(project, "comparison")
    return small.changed(style_size=small.size)  # paintings as small as the images


def test_anchors_are_the_ends_of_the_scales(project, loss, settings, sets):
    file, artwork = sets.photos.validation[0], sets.artworks.validation[0]
    square = images.load_square(file, settings.size)
    judges = metrics.load_judges(project, loss, settings.metrics)
    photos = {file: metrics.photo(square, judges)}
    given = artwork, photos, judges, settings, {}
    photo, style = (rendered(ANCHORS[name], *given).iloc[0] for name in ("photo", "style"))
    assert photo["content"] == 0 and photo["ssim"] == pytest.approx(1)
    assert photo["cfsd"] == pytest.approx(0, abs=1e-6)
    assert style["gram"] < 0.5 * photo["gram"] and style["sliced"] < 0.5 * photo["sliced"]
    assert style["content"] > 1 and style["cfsd"] > 0.01
    assert photo["lpips"] == 0 and style["lpips"] > 0.3
    assert style["alexnet"] < 0.5 * photo["alexnet"]


def test_each_kind_of_method_renders_its_pairs(settings):
    photos, artworks = list(range(24)), list(range(100, 114))
    s = settings.changed(pairs=5, measured_pairs=None, optimised_pairs=16)
    figure = pairs(photos, artworks, 5, s.seed)

    def made(updates, styles):
        method = SimpleNamespace(updates=updates, styles=styles)
        wanted = renderings(photos, artworks, s, method)
        assert all(photo in wanted[artwork] for photo, artwork in figure)
        return wanted

    everything = made(1, "any")
    assert sum(map(len, everything.values())) == 24 * 14
    assert sum(map(len, made(800, "any").values())) == 16
    johnson = made(1, "1")
    assert set(johnson) == {artwork for _, artwork in figure}
    assert all(files == photos for files in johnson.values())


def test_a_figure_that_is_not_measured_is_refused(settings):
    with pytest.raises(InputError, match="measured_pairs includes the figure's pairs"):
        settings.changed(pairs=3)


def test_renderings_are_kept_with_their_images(
    project, loss, settings, sets, tmp_path, monkeypatch
):
    monkeypatch.setenv("METASTYLE_CACHE", str(tmp_path))
    files, artwork = sets.photos.validation[:2], sets.artworks.validation[0]
    listed = pd.DataFrame({"file": list("xyz"), "artist": list("abc")}, index=[*files, artwork])
    monkeypatch.setattr(splits, "listed", lambda project: listed)
    held_out = SimpleNamespace(held_out=files), SimpleNamespace(held_out=[artwork])
    chosen = SimpleNamespace(photos=held_out[0], artworks=held_out[1])
    monkeypatch.setattr(splits, "read", lambda project: chosen)
    s, calls = settings.changed(pairs=1, measured_pairs=None), []

    def stylise(state, photo):
        calls.append(1)
        return 1 - photo

    def run(key):
        return measured(ANCHORS["photo"]._replace(stylise=stylise), project, loss, s, key)

    first, pictures = run("a")
    again, same = run("a")
    pd.testing.assert_frame_equal(first, again)
    assert len(calls) == 2 and pictures == same and list(pictures) == [0]
    ((shown, _),) = pairs(files, [artwork], 1, s.seed)
    expected = 1 - images.load_square(shown, s.size)
    torch.testing.assert_close(images.load(pictures[0]), expected, rtol=0, atol=1 / 255)
    assert first.iloc[:, :3].to_numpy().tolist() == [["x", "z", "c"], ["y", "z", "c"]]
    run("b")
    assert len(calls) == 4


def test_image_network_differs_from_the_timed_one_by_one_convolution(loss):
    """VGG-19 has one more in block 3: 3x3, 256 to 256, for the photo and for the style."""
    project, meta = Project(ROOT / "params.yaml"), deepcopy(loss.vgg).to("meta")
    given = project, PerceptualLoss(meta, loss.settings), 256
    counted = deviation("adain", *given)
    here, timed = counted["images"], counted["timed"]
    assert timed["parameters"] == 7_010_947
    assert timed["parameters"] - here["parameters"] == 9 * 256 * 256 + 256
    assert timed["GMAC"] - here["GMAC"] == pytest.approx(2 * 9 * 256 * 256 * 64**2 / 1e9)
    for same in ("shen", "styleswap", "gatys"):
        assert deviation(same, *given) is None


def test_differences_are_taken_pair_by_pair():
    keys = [(p, a) for p in "xyz" for a in "ab"]
    table = pd.DataFrame(keys, columns=["photo", "artwork"]).assign(artist=lambda t: t["artwork"])
    far_apart = [100.0 * k for k in range(6)]
    one, other = table.copy(), table.iloc[::-1].copy()
    for name in MEASURES:
        one[name], other[name] = [v + 1 for v in far_apart], far_apart[::-1]
    found = against(one.iloc[:5], other)
    assert found["pairs"] == 5 and all(found[name] == Interval(1, 1, 1) for name in MEASURES)


# Bounds of the differences in style, structure and SSIM; near is within 1, 2 and 0.1 of them.
@pytest.mark.parametrize(
    ("style", "structure", "ssim", "stands"),
    [
        ((-0.9, 0.9), (-1.9, 0.2), (-0.1, 0.1), "near"),
        ((0.3, 0.9), (0.1, 0.5), (-0.09, -0.01), "near"),  # worse for certain, and by little
        ((-3.0, -0.1), (-0.5, 2.5), (-0.1, 0.1), "above"),
        ((-3.0, 0.1), (0.1, 1.5), (-0.3, 0.1), "below"),
        ((-3.0, 0.1), (-0.5, 0.5), (0.1, 0.2), "above"),
        ((-3.0, -0.1), (-0.5, 0.5), (-0.2, -0.1), "another trade-off"),
        ((-0.9, 0.1), (-1.5, 1.5), (-0.2, 0.2), "undecided"),
    ],
)
def test_standing_needs_every_measure(style, structure, ssim, stands):
    opposite = {"above": "below", "below": "above"}
    anchors = {"sliced": 10.0, "cfsd": 20.0, "ssim": 1.0}
    bounds = {"sliced": style, "cfsd": structure, "ssim": ssim, "content": (5.0, 6.0)}
    found = {k: Interval(sum(v) / 2, *v) for k, v in bounds.items()}
    turned = {k: Interval(-sum(v) / 2, -v[1], -v[0]) for k, v in bounds.items()}
    assert standing(found, anchors, 0.1) == stands
    assert standing(turned, anchors, 0.1) == opposite.get(stands, stands)


def test_standing_by_other_measures():
    anchors = dict.fromkeys(INDEPENDENT, 1.0)
    found = {"alexnet": Interval(-0.3, -0.4, -0.2), "lpips": Interval(0, -0.1, 0.1)}
    assert standing(found, anchors, 0.1, INDEPENDENT) == "above"
    assert standing(found, anchors, 0.5, INDEPENDENT) == "near"


@pytest.mark.parametrize(
    ("standings", "near", "above", "both"),
    [
        (["near", "below", "below"], "reproduced", "reproduced", "reproduced"),
        (["below", "undecided", "below"], "reproduced", "undecided", "partly"),
        (["undecided", "below", "near"], "undecided", "not reproduced", "undecided"),
        (["above", "another trade-off"], "not reproduced", "not reproduced", "not reproduced"),
        (["above", "below", "below"], "not reproduced", "reproduced", "partly"),
        (["near"], "reproduced", "not judged", "partly"),  # no other may be judged
        (["above"], "not reproduced", "not judged", "not judged"),
        ([], "not judged", "not judged", "not judged"),
    ],
)
def test_claim_about_quality(standings, near, above, both):
    given = dict(zip(("gatys", "wct", "adain"), standings, strict=False))
    assert claim(given) == {"near": near, "above": above, "both": both}


def test_short_and_failed_trainings_are_not_judged(settings, tmp_path):
    project = Project(ROOT / "params.yaml")
    project.inputs = tmp_path
    write_json(tmp_path / "baselines" / "floors.json", {"wct1": True, "wct5": False, "adain": True})

    def why(**changes):
        return comparison.trainings(project, settings.changed(**changes))["not judged"]

    assert why(trained=0)["wct"] == "below its floor (wct5)" and why(trained=0)["adain"] == ""
    assert why(trained=1)["wct"] == "below its floor (wct5)"
    assert why(trained=1)["adain"].endswith("of the published pixels")
    assert not why(trained=1)[["gatys", "johnson", "metastyle"]].any()
    assert why()[["wct", "adain", "shen", "avatarnet", "styleswap"]].all()


def test_the_verdict_is_about_those_that_may_be_judged(settings):
    def moved(by):
        return pd.Series({"pairs": 9} | {k: Interval(by, by - 0.01, by + 0.01) for k in MEASURES})

    scale = {
        name: pd.DataFrame([dict.fromkeys(MEASURES, v)])
        for name, v in zip(ANCHORS, (0, 1), strict=True)
    }
    differences = {"gatys": moved(0), "johnson": moved(0.05), "wct": moved(-0.5)}
    why = {name: "" for name in differences} | {"wct": "reasons"}
    trainings = pd.DataFrame({"not judged": why})
    run = comparison.Run(None, settings, None, [], {}, scale, differences, trainings)
    whole, near, above, gatys, johnson, wct, beside = comparison.judge(run)
    assert beside.ours == "gatys near, johnson near, wct above" and beside.verdict == "measured"
    assert (whole.verdict, near.verdict, above.verdict) == ("partly", "reproduced", "not judged")
    assert gatys.ours == johnson.ours == "near" and gatys.verdict == "measured"
    assert wct.ours == "another trade-off" and wct.verdict == "not judged"  # SSIM is the opposite
    assert wct.note.startswith("Not judged: reasons.")
    assert claims.sentences([above]).endswith("Verdict: **not judged**.")
