"""Drawn images of three classes: bars, frames and discs, 20 x 28, grey. Not square, and bars are
twice as frequent.

    python shapes_data.py      writes them as shapes.npz
"""

from __future__ import annotations

import numpy as np

HEIGHT, WIDTH = 20, 28


def load(train: int = 300, test: int = 60) -> dict[str, np.ndarray]:
    """What `{load: "shapes_data:load"}` calls.

    train: images to learn from
    test: images to attack
    """
    rng = np.random.default_rng(7)
    x_train, y_train = _draw(rng, train)
    x_test, y_test = _draw(rng, test)
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def _draw(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    labels = rng.permutation(np.arange(count) % 4 // 2 + np.arange(count) % 4 // 3)
    images = rng.normal(60, 20, (count, HEIGHT, WIDTH))
    for image, label in zip(images, labels, strict=True):
        y, x = rng.integers(7, HEIGHT - 7), rng.integers(7, WIDTH - 7)
        near = np.maximum(abs(rows - y), abs(columns - x))
        bar = (abs(rows - y) <= 1) & (abs(columns - x) <= 6)
        frame = (near >= 4) & (near <= 5)
        disc = (rows - y) ** 2 + (columns - x) ** 2 <= 20
        image[(bar, frame, disc)[label]] += 130
    return np.clip(images, 0, 255).astype(np.uint8)[..., None], labels


if __name__ == "__main__":
    np.savez("shapes.npz", **load())
