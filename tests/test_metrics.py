"""Measures of images against derivations by other routes; which pairs are measured; stopping."""

from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, SMOKE
from scipy.special import rel_entr, softmax

from metastyle.core import images
from metastyle.evaluation import metrics
from metastyle.studies import comparison
from metastyle.adaptation.adapt import Adaptation, adapt
from metastyle.studies.comparison import ANCHORS, MEASURES, Comparison
from metastyle.config import InputError
from metastyle.evaluation.statistics import Interval
from metastyle.evaluation.metrics import profile, psnr, sliced_wasserstein, ssim, structural_distance
from metastyle.config import read
from metastyle.baselines.quality import (
    Floor,
    Generated,
    against_floors,
    against_limits,
    apart,
    quality,
    references,
)
from metastyle.adaptation.adapt import Stop, adapt_until_flat, is_flat
from metastyle.core.network import new_network
from metastyle.evaluation.claims import Verdict, claim, standing


@pytest.fixture(scope="module")
def settings():
    small = read(SMOKE, "comparison", Comparison)
    return small.model_copy(update={"style_size": small.size})  # paintings as small as the images


def features(seed, height=6, width=7, channels=5):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, channels, height, width, generator=generator, dtype=torch.float64)


def sliced(a, b, settings):
    return sliced_wasserstein(profile(a, settings), profile(b, settings)).item()


def test_sliced_distance_is_that_of_sorted_projections(settings):
    s = settings.metrics.model_copy(update={"quantiles": 42, "directions": 9})
    a, b = features(0), 2 * features(1) + 1
    generator = torch.Generator().manual_seed(s.seed)
    directions = torch.randn(9, 5, generator=generator).double().numpy()
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    one, two = (np.sort(directions @ x[0].flatten(1).numpy(), axis=1) for x in (a, b))
    expected = ((one - two) ** 2).mean() / two.var(axis=1).mean()
    assert sliced(a, b, s) == pytest.approx(expected, rel=1e-6)


def test_sliced_distance_sees_no_places_and_all_shifts(settings):
    s = settings.metrics.model_copy(update={"quantiles": 21, "directions": 2000})
    a = features(0)
    moved = a.flatten(2)[..., torch.randperm(42, generator=torch.Generator().manual_seed(1))]
    assert sliced(a, moved.view(1, 5, 7, 6), s) == pytest.approx(0, abs=1e-12)
    assert sliced(a, 3 * a, s) == pytest.approx(sliced(5 * a, 15 * a, s))
    # Averaged over directions a shift by d costs |d|^2 / C, whatever the distribution.
    shift = torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0], dtype=torch.float64)
    variance = profile(a, s).var(1, correction=0).mean()
    distance = sliced(a + shift.view(1, 5, 1, 1), a, s) * variance.item()
    assert distance == pytest.approx(shift.square().sum().item() / 5, rel=0.1)
    # Twice as many pixels of the same distribution are the same style.
    assert sliced(torch.cat([a, a], 3), a, s) < 0.01


def test_structural_distance_by_loops():
    a, b, temperature = features(0, 2, 3), features(1, 2, 3), 0.2
    rows = []
    for x in (a, b):
        places = x[0].flatten(1).T.numpy()
        places = places / np.linalg.norm(places, axis=1, keepdims=True)
        rows.append([softmax([p @ q / temperature for q in places]) for p in places])
    expected = np.mean([rel_entr(w, f).sum() for f, w in zip(*rows, strict=True)])
    found = structural_distance(a, b, temperature).item()
    assert found == pytest.approx(expected, rel=1e-6) and found > 0.01


def test_structural_distance_sees_structure_alone():
    a = features(0)
    rotation, _ = torch.linalg.qr(features(1, 5, 5, 1)[0, 0])
    turned = 7 * torch.einsum("dc,nchw->ndhw", rotation, a)
    assert structural_distance(turned, a, 0.1).item() == pytest.approx(0, abs=1e-9)
    assert structural_distance(a.flip(3), a, 0.1) > 0.1


def test_ssim_of_known_images():
    torch.manual_seed(0)
    a, b = torch.full((1, 3, 16, 16), 0.25), torch.full((1, 3, 16, 16), 0.75)
    c = 0.01**2
    expected = (2 * 0.25 * 0.75 + c) / (0.25**2 + 0.75**2 + c)
    assert ssim(a, b) == pytest.approx(expected, rel=1e-3)
    noise = torch.rand(1, 3, 32, 32)
    assert ssim(noise, noise) == pytest.approx(1) and ssim(noise, 1 - noise) < -0.5
    # Grey values alone count: rec. 601 weights red 0.2989, green 0.587.
    red, green = torch.zeros(2, 1, 3, 16, 16).unbind()
    red[:, 0], green[:, 1] = 0.587, 0.2989
    assert ssim(red, green) == pytest.approx(1, abs=1e-3)


def test_psnr_of_a_known_error():
    a = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert psnr(a + 0.1, a) == pytest.approx(20, abs=1e-3)
    assert psnr(a, a) == float("inf")


def test_anchors_are_the_ends_of_the_scales(vgg, perceptual, settings, sets):
    file, artwork = sets["photo/validation"][0], sets["artwork/validation"][0]
    photos = comparison.photos_to_compare([file], vgg, perceptual, settings)
    given = artwork, photos, vgg, perceptual, settings
    photo = comparison.rendered(*ANCHORS["photo"], *given).iloc[0]
    style = comparison.rendered(*ANCHORS["style"], *given).iloc[0]
    assert photo["content"] == 0 and photo["ssim"] == pytest.approx(1)
    assert photo["cfsd"] == pytest.approx(0, abs=1e-6)
    assert style["gram"] < 0.5 * photo["gram"] and style["sliced"] < 0.5 * photo["sliced"]
    assert style["content"] > 1 and style["cfsd"] > 0.01
    # The whole painting against itself.
    painting = images.load(artwork, settings.style_size)
    wanted = metrics.style(painting, vgg, perceptual, settings.metrics)
    own = metrics.photo(painting, vgg, perceptual, settings.metrics)
    exact = metrics.measure(painting, own, wanted, vgg, perceptual, settings.metrics)
    assert exact["gram"] == pytest.approx(0, abs=1e-9)
    assert exact["sliced"] == pytest.approx(0, abs=1e-9)


def test_pairs_begin_alike_and_differ():
    photos, artworks = list(range(24)), list(range(100, 114))
    many = comparison.pairs(photos, artworks, 16, 2)
    assert many[:5] == comparison.pairs(photos, artworks, 5, 2)
    assert len(set(many)) == 16 and len({photo for photo, _ in many}) == 16
    assert {artwork for _, artwork in many} == set(artworks)
    assert many != comparison.pairs(photos, artworks, 16, 3)


def test_each_kind_of_method_renders_its_pairs(settings):
    photos, artworks = list(range(24)), list(range(100, 114))
    s = settings.model_copy(update={"pairs": 5, "measured_pairs": None, "optimised_pairs": 16})
    figure = comparison.pairs(photos, artworks, 5, s.seed)

    def made(updates, styles):
        method = SimpleNamespace(updates=updates, styles=styles)
        wanted = comparison.renderings(photos, artworks, s, method)
        assert all(photo in wanted[artwork] for photo, artwork in figure)
        return wanted

    everything = made(1, "any")
    assert everything == comparison.renderings(photos, artworks, s)
    assert sum(map(len, everything.values())) == 24 * 14
    assert sum(map(len, made(800, "any").values())) == 16
    johnson = made(1, "1")
    assert set(johnson) == {artwork for _, artwork in figure}
    assert all(files == photos for files in johnson.values())


def test_a_figure_that_is_not_measured_is_refused():
    values = read(SMOKE, "comparison", Comparison).model_dump() | {"pairs": 3}
    with pytest.raises(ValueError, match="measured_pairs includes the figure's pairs"):
        Comparison.model_validate(values)


def test_renderings_are_kept_with_their_images(vgg, perceptual, settings, sets, tmp_path):
    files, artwork = sets["photo/validation"][:2], sets["artwork/validation"][0]
    photos = comparison.photos_to_compare(files, vgg, perceptual, settings)
    calls = []

    def stylise(state, photo):
        calls.append(1)
        return 1 - photo

    def run(decides):
        figure = [(files[0], files[1]), (files[1], artwork)]
        given = (lambda style: None), stylise, artwork, photos, vgg, perceptual, settings
        return comparison.kept_rendering(tmp_path, decides, *given, figure=figure)

    first, pictures = run(["a"])
    again, same = run(["a"])
    pd.testing.assert_frame_equal(first, again)
    assert len(calls) == 2 and pictures == same and list(pictures) == [1]
    expected = 1 - images.load_square(files[1], settings.size)
    torch.testing.assert_close(images.load(pictures[1]), expected, rtol=0, atol=1 / 255)
    assert first["photo"].tolist() == files and set(first["artwork"]) == {artwork}
    run(["b"])
    assert len(calls) == 4


def test_image_network_differs_from_the_timed_one_by_one_convolution(vgg):
    """VGG-19 has one more in block 3: 3x3, 256 to 256, for the photo and for the style."""
    meta = deepcopy(vgg).to("meta")
    counted = comparison.deviation("adain", ROOT / "params.yaml", meta, 256)
    here, timed = counted["images"], counted["timed"]
    assert timed["parameters"] == 7_010_947
    assert timed["parameters"] - here["parameters"] == 9 * 256 * 256 + 256
    assert timed["GMAC"] - here["GMAC"] == pytest.approx(2 * 9 * 256 * 256 * 64**2 / 1e9)
    for same in ("shen", "styleswap"):
        assert comparison.deviation(same, ROOT / "params.yaml", meta, 256) is None


def test_differences_are_taken_pair_by_pair():
    keys = [(p, a) for p in "xyz" for a in "ab"]
    table = pd.DataFrame(keys, columns=["photo", "artwork"]).assign(artist=lambda t: t["artwork"])
    loud = [100.0 * k for k in range(6)]
    one, other = table.copy(), table.iloc[::-1].copy()
    for name in MEASURES:
        one[name], other[name] = [v + 1 for v in loud], loud[::-1]
    count, found = comparison.against(one.iloc[:5], other)
    assert count == 5 and all(v == Interval(1, 1, 1) for v in found.values())


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
    assert standing(found, anchors, Verdict(near=0.1)) == stands
    assert standing(turned, anchors, Verdict(near=0.1)) == opposite.get(stands, stands)


@pytest.mark.parametrize(
    ("standings", "near", "above", "verdict"),
    [
        (["near", "below", "below"], "yes", "yes", "reproduced"),
        (["below", "undecided", "below"], "yes", "undecided", "reproduced in part"),
        (["undecided", "below", "near"], "undecided", "no", "undecided"),
        (["above", "another trade-off"], "no", "no", "not reproduced"),
        (["above", "below", "below"], "no", "yes", "reproduced in part"),
        (["near"], "yes", "undecided", "reproduced in part"),  # no other may be judged
    ],
)
def test_claim_about_quality(standings, near, above, verdict):
    given = dict(zip(("gatys", "wct", "adain"), standings, strict=False))
    assert claim(given, ["gatys", "johnson"]) == {"near": near, "above": above, "verdict": verdict}
    assert claim({}, ["gatys", "johnson"])["verdict"] == "undecided"


def test_floors_are_for_both_means():
    photo = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    tables = [quality({"a": photo + 0.1, "b": photo + 0.01}, photo).assign(photo=k) for k in "xy"]
    table = pd.concat(tables)
    floors = {"a": Floor(psnr=19, ssim=0.5), "b": Floor(psnr=39, ssim=0.9)}
    judged = against_floors(table, floors)
    assert judged["reached"].tolist() == [True, True]
    assert judged.loc["a", "psnr"].value == pytest.approx(20, abs=1e-3)
    for floor in (Floor(psnr=21, ssim=0.5), Floor(psnr=19, ssim=1.0)):
        assert not against_floors(table, {"a": floor}).loc["a", "reached"]


def test_references_lose_what_their_grid_cannot_hold():
    ramp = torch.linspace(0, 1, 32).expand(1, 3, 48, 32)
    made = references(ramp)
    assert all(image.shape == ramp.shape for image in made.values())
    apart = [(image - ramp).square().mean().item() for image in made.values()]
    assert apart[0] == pytest.approx(ramp[0, 0, 0].var(correction=0).item())
    assert apart == sorted(apart, reverse=True)  # the mean colour, then finer and finer grids
    chequered = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(1, 3, 24, 16)
    assert (references(chequered)["grid of relu2_1"] - 0.5).abs().max() < 0.1


def test_apart_is_one_at_what_it_is_measured_by_and_zero_at_the_aim(vgg, sets):
    photo, other = (images.load_square(file, 48) for file in sets["photo/validation"][:2])
    painting = images.load_square(sets["artwork/validation"][0], 48)
    kept, mistaken, copied = (
        apart(x, photo, other, painting, vgg) for x in (photo, other, painting)
    )
    assert (kept["content"], mistaken["content"]) == (0, pytest.approx(1))
    assert (kept["style"], copied["style"]) == (pytest.approx(1), 0)
    table = pd.DataFrame([kept, copied]).assign(photo=["x", "y"], artist="a")
    style = against_limits(table, Generated(content=9, style=0.51)).loc["style"]
    assert style["mean"].value == pytest.approx(0.5) and style["reached"]
    assert not against_limits(table, Generated(content=9, style=0.49)).loc["style", "reached"]


RULE = Stop(every=2, looks=2, least=0.01, photos=1, photo_size=32)


@pytest.mark.parametrize(
    ("losses", "flat"),
    [
        ([9, 8, 7], False),
        ([9, 8], False),
        ([9, 8.95], False),
        ([9, 8.95, 8.92], True),
        ([9, 8.95, 8.9], False),
        ([9, 7, 7.0, 6.95], True),
        ([9, 7, 8], False),
        ([9, 7, 7, 10], True),
        ([9, 7, 6, 7.5], False),  # the last look alone decides nothing
    ],
)
def test_the_rule_looks_back_so_many_looks(losses, flat):
    assert is_flat(losses, RULE) is flat


def test_training_stops_by_the_rule_or_at_the_last_update(vgg, perceptual, sets):
    recipe = read(SMOKE, "adapt", Adaptation).model_copy(update={"updates": 7})
    style = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    given = new_network(0), style, sets["photo/inner"][:4]

    def until(rule):
        validation = sets["photo/validation"]
        return adapt_until_flat(*given, validation, vgg, perceptual, recipe, rule)

    def after(updates):
        shorter = recipe.model_copy(update={"updates": updates})
        return adapt(*given, vgg, perceptual, shorter).network

    def same(a, b):
        pairs = zip(a.parameters(), b.parameters(), strict=True)
        return all(torch.equal(x, y) for x, y in pairs)

    # Every look counts as flat: looks after 0, 2 and 4 updates, the third may stop.
    assert same(until(RULE.model_copy(update={"least": 1.0})), after(4))
    assert same(until(RULE.model_copy(update={"looks": 9})), after(6))  # the last look's
    spoilt = {"learning_rate": 100.0, "warmup": 0}
    recipe = recipe.model_copy(update=spoilt)
    assert same(until(RULE), given[0])  # the best look's, here the first
    with pytest.raises(InputError, match="99 validation photos asked for"):
        until(RULE.model_copy(update={"photos": 99}))
