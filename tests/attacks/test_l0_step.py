"""Our boundary steps against Foolbox's solver, on random problems of every kind."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from prunegrid.workers.attacks.algorithms.brendel_bethge.l0_step import _largest, l0_steps


def problem(rng):
    """x0, x, b, c, radius: elements at the ends of the box, zero gradients, boundaries within
    and out of reach, radii that bind and that don't."""
    d = int(rng.integers(2, 60))
    x0 = rng.random(d).astype(np.float32)
    x0[rng.random(d) < 0.4] = rng.integers(0, 2)
    x = np.clip(x0 + (rng.random(d) < 0.3) * rng.normal(size=d), 0, 1).astype(np.float32)
    b = (rng.normal(size=d) * 10 ** rng.uniform(-6, 1)).astype(np.float32)
    b[rng.random(d) < 0.2] = 0
    c = np.float32(rng.normal() * np.abs(b).sum() * 10 ** rng.uniform(-2, 0.5))
    radius = 10 ** rng.uniform(-2, 1.2) if rng.random() < 0.7 else 1e7 * d
    return x0, x, b, c, radius


def test_equals_foolbox_on_random_problems(uncompiled_foolbox):
    solver = uncompiled_foolbox.L0Optimizer()
    called: dict[str, int] = {}
    for name in ("optimize_boundary_s_t_trustregion", "_nelder_mead_algorithm"):
        inner = getattr(solver, name)

        def counted(*args, _inner=inner, _name=name, **kwargs):
            called[_name] = called.get(_name, 0) + 1
            return _inner(*args, **kwargs)

        setattr(solver, name, counted)
    rng = np.random.default_rng(1)
    exact, total = 0, 150
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(total):
            x0, x, b, c, radius = problem(rng)
            want = solver.solve(x0, x, b, 0, 1, c, radius)
            got = l0_steps(x0[None], x[None], b[None], np.array([c]), np.array([radius]))[0]
            # Plain Python's powers round otherwise than numba's products now and then.
            np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)
            exact += np.array_equal(got, want)
    assert exact > 0.9 * total
    assert called["optimize_boundary_s_t_trustregion"] > 20
    assert called["_nelder_mead_algorithm"] > 10


def test_many_rows_at_once_are_as_one_by_one():
    rng = np.random.default_rng(2)
    d, n = 700, 9  # more elements than are sorted at first
    x0, x = (rng.random((n, d)).astype(np.float32) for _ in range(2))
    b = rng.normal(size=(n, d)).astype(np.float32)
    c = rng.normal(size=n) * np.array([1, 10, 100] * 3)
    radius = np.full(n, 1e9)
    together = l0_steps(x0, x, b, c, radius)
    for i in range(n):
        row = slice(i, i + 1)
        assert np.array_equal(
            l0_steps(x0[row], x[row], b[row], c[row], radius[row])[0], together[i]
        )
    np.testing.assert_allclose((b * together).sum(axis=1), c, rtol=1e-4, atol=1e-3)
    assert ((x + together) >= -1e-6).all()
    assert ((x + together) <= 1 + 1e-6).all()


def test_it_changes_as_few_elements_as_the_boundary_needs():
    x0 = np.zeros((1, 4), np.float32)
    b = np.array([[1.0, 3.0, 2.0, 0.5]], np.float32)
    step = l0_steps(x0, x0, b, np.array([4.0]), np.array([1e9]))[0]
    np.testing.assert_allclose(step, [0, 1, 0.5, 0])


@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.97, 1.0])
def test_the_largest_elements_of_many(zeros):
    """Wide rows go by blocks; ties, as of pixels that can't move, are in all of them."""
    rng = np.random.default_rng(4)
    for d, count in ((200, 8), (784, 32), (3072, 32), (3072, 256)):
        size = rng.random((9, d), np.float32)
        size[rng.random(size.shape) < zeros] = 0
        order, cut = _largest(size, count)
        expected = np.sort(size, axis=1)[:, -count:]
        got = np.sort(np.take_along_axis(size, order, axis=1), axis=1)
        np.testing.assert_array_equal(got, expected)
        np.testing.assert_array_equal(cut, expected[:, 0])
        assert all(len(set(row)) == count for row in order.tolist()), "no element twice"
