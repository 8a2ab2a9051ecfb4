"""Common corruptions as an attack without gradients: noise, blur, contrast, brightness and coarse
pixels at five strengths, as in Hendrycks & Dietterich 2019, "Benchmarking Neural Network Robustness
to Common Corruptions and Perturbations", with the strengths that they take for small images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from prunegrid.workers.attacks.function_attack import AttackedNetwork

NOISE = (0.04, 0.06, 0.08, 0.09, 0.10)
SALT = (0.01, 0.02, 0.03, 0.05, 0.07)
BLUR = (0.4, 0.6, 0.7, 0.8, 1.0)
CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)
BRIGHTNESS = (0.05, 0.1, 0.15, 0.2, 0.3)
PIXELS = (0.95, 0.9, 0.85, 0.75, 0.65)


def _noise(image: np.ndarray, level: int, rng: np.random.Generator) -> np.ndarray:
    return image + rng.normal(0, NOISE[level], image.shape)


def _salt(image: np.ndarray, level: int, rng: np.random.Generator) -> np.ndarray:
    draw = rng.random(image.shape)
    return np.where(draw < SALT[level] / 2, 0, np.where(draw > 1 - SALT[level] / 2, 1, image))


def _blur(image: np.ndarray, level: int, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(ndimage.gaussian_filter(image, (BLUR[level], BLUR[level], 0)))


def _contrast(image: np.ndarray, level: int, rng: np.random.Generator) -> np.ndarray:
    mean = image.mean(axis=(0, 1), keepdims=True)
    return mean + (image - mean) * CONTRAST[level]


def _brightness(image: np.ndarray, level: int, rng: np.random.Generator) -> np.ndarray:
    return image + BRIGHTNESS[level]


def _pixelate(image: np.ndarray, level: int, rng: np.random.Generator) -> np.ndarray:
    height, width, _ = image.shape
    rows = (np.arange(height) * PIXELS[level]).astype(int) / PIXELS[level]
    columns = (np.arange(width) * PIXELS[level]).astype(int) / PIXELS[level]
    return image[np.ceil(rows).astype(int)][:, np.ceil(columns).astype(int)]


KINDS: dict[str, Callable[[np.ndarray, int, np.random.Generator], np.ndarray]] = {
    "noise": _noise,
    "salt": _salt,
    "blur": _blur,
    "contrast": _contrast,
    "brightness": _brightness,
    "pixelate": _pixelate,
}


def corruptions(
    network: AttackedNetwork,
    images: np.ndarray,
    labels: np.ndarray,
    rngs: Sequence[np.random.Generator],
    *,
    kind: str = "all",
    strongest: int = 5,
) -> np.ndarray:
    """Of each image the corrupted one that is nearest in L2 among those that are misclassified.

    kind: noise, salt, blur, contrast, brightness, pixelate, or all
    strongest: strengths 1 to this one, at most 5
    """
    if kind not in ("all", *KINDS) or not 1 <= strongest <= 5:
        raise ValueError(
            f"kind: expected all, {', '.join(KINDS)}, got {kind!r}; strongest: expected 1 to 5, "
            f"got {strongest}"
        )
    best, nearest = images.copy(), np.full(len(images), np.inf)
    for name, corrupt in KINDS.items():
        if kind not in ("all", name):
            continue
        for level in range(strongest):
            changed = np.stack(
                [corrupt(x, level, rng) for x, rng in zip(images, rngs, strict=True)]
            )
            changed = np.clip(changed, 0, 1).astype(np.float32)
            gap = np.sqrt(np.square(changed - images).sum(axis=(1, 2, 3)))
            hit = (network.logits(changed).argmax(axis=1) != labels) & (gap < nearest)
            best[hit], nearest[hit] = changed[hit], gap[hit]
    return best
