"""Measures of images against derivations by other routes."""

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from metastyle.core import images
from metastyle.evaluation import metrics
from metastyle.evaluation.lpips import lpips
from metastyle.evaluation.metrics import (
    Metrics,
    profile,
    psnr,
    sliced_wasserstein,
    ssim,
    structural_distance,
)


@pytest.fixture(scope="module")
def settings(project):
    return Metrics.read(project, "comparison.metrics")


def features(seed, height=6, width=7, channels=5):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, channels, height, width, generator=generator, dtype=torch.float64)


def sliced(a, b, settings):
    return sliced_wasserstein(profile(a, settings), profile(b, settings)).item()


def test_sliced_distance_is_that_of_sorted_projections(settings):
    s = settings.changed(quantiles=42, directions=9)
    a, b = features(0), 2 * features(1) + 1
    generator = torch.Generator().manual_seed(s.seed)
    directions = torch.randn(9, 5, generator=generator).double().numpy()
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    one, two = (np.sort(directions @ x[0].flatten(1).numpy(), axis=1) for x in (a, b))
    expected = ((one - two) ** 2).mean() / two.var(axis=1).mean()
    assert sliced(a, b, s) == pytest.approx(expected, rel=1e-6)


def test_sliced_distance_sees_no_places_and_all_shifts(settings):
    s = settings.changed(quantiles=21, directions=2000)
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


@pytest.fixture(scope="module")
def judges(project, loss, settings):
    return metrics.load_judges(project, loss, settings)


def test_a_painting_is_at_no_distance_from_itself(judges, sets):
    painting = images.load(sets.artworks.validation[0], 48)
    wanted, own = metrics.style(painting, judges), metrics.photo(painting, judges)
    exact = metrics.measure(painting, own, wanted, judges)
    assert list(exact) == metrics.MEASURES
    assert exact["gram"] == pytest.approx(0, abs=1e-9)
    assert exact["sliced"] == pytest.approx(0, abs=1e-9)
    assert exact["content"] == 0 and exact["ssim"] == pytest.approx(1)
    assert exact["lpips"] == 0 and exact["alexnet"] == pytest.approx(0, abs=1e-9)


def test_alexnet_compares_with_the_photo_and_with_the_painting(judges, sets):
    files = sets.photos.validation[0], *sets.artworks.validation[:2]
    photo, painting, other = (images.load_square(file, 64) for file in files)
    known = metrics.photo(photo, judges)

    def measured(image, style):
        return metrics.measure(image, known, metrics.style(style, judges), judges)

    found = measured(painting, painting)
    assert found["lpips"] == pytest.approx(lpips(painting, photo, judges.alexnet).item())
    assert found["alexnet"] == pytest.approx(0, abs=1e-9)
    assert found["alexnet"] < measured(other, painting)["alexnet"]
