"""First and second moments of features, matched to a style's: AdaIN and whitening-colouring."""

from typing import NamedTuple

import torch
from torch import Tensor

EPSILON = 1e-5  # added to variances
THRESHOLD = 1e-5  # eigenvalues up to this are dropped


class Moments(NamedTuple):
    """Mean and standard deviation of every channel, (N, C, 1, 1) each."""

    mean: Tensor
    deviation: Tensor


def moments(features: Tensor) -> Moments:
    """Moments over the pixels of (N, C, H, W)."""
    variance, mean = torch.var_mean(features, (2, 3), correction=0, keepdim=True)
    return Moments(mean, (variance + EPSILON).sqrt())


def adain(content: Tensor, style: Moments) -> Tensor:
    """Adaptive instance normalisation (Huang and Belongie 2017, equation 8).

    Args:
        content: features (N, C, H, W).
        style: moments of one style (1, C, 1, 1) or of one per content.
    """
    own = moments(content)
    return style.deviation * (content - own.mean) / own.deviation + style.mean


class Spectrum(NamedTuple):
    """Mean (N, C, 1, 1) and eigendecomposition of the covariance of channels, in float64.

    values: ascending, (N, C).
    vectors: in columns, (N, C, C).
    """

    mean: Tensor
    values: Tensor
    vectors: Tensor


def spectrum(features: Tensor, *, correction: int) -> Spectrum:
    """Spectrum of (N, C, H, W), the covariance being a sum over H W - `correction`.

    In float64: with fewer pixels than channels the covariance is singular, and float32 would
    leave its zero eigenvalues at the size of the threshold.
    """
    pixels = features.double().flatten(2)
    mean = pixels.mean(2, keepdim=True)
    pixels = pixels - mean
    covariance = pixels @ pixels.transpose(1, 2) / (pixels.shape[2] - correction)
    return Spectrum(mean[..., None], *torch.linalg.eigh(covariance))


def _power(spectrum: Spectrum, exponent: float) -> Tensor:
    """E D^exponent E^T over the eigenvalues above the threshold: (N, C, C)."""
    kept = spectrum.values > THRESHOLD
    values = spectrum.values.where(kept, 1).pow(exponent) * kept
    return spectrum.vectors * values[:, None, :] @ spectrum.vectors.transpose(1, 2)


def _mix(matrices: Tensor, features: Tensor) -> Tensor:
    """(N or 1, C, C) applied to the channels of (N, C, H, W)."""
    return (matrices.to(features.dtype) @ features.flatten(2)).view_as(features)


def whiten(features: Tensor, own: Spectrum) -> Tensor:
    """E D^-1/2 E^T (x - mean), also called ZCA: identity covariance, nearest to the features.

    Args:
        features: (N, C, H, W).
        own: their spectrum.
    """
    return _mix(_power(own, -0.5), features - own.mean.to(features.dtype))


def colour(whitened: Tensor, style: Spectrum) -> Tensor:
    """E D^1/2 E^T x + mean: whitened features (N, C, H, W) get the style's covariance and mean."""
    return _mix(_power(style, 0.5), whitened) + style.mean.to(whitened.dtype)
