"""Masks as bits, and the hash of weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from prunegrid.workers.artifacts import pack_masks, unpack_masks, weights_sha256

MASKS = st.dictionaries(
    st.sampled_from(["conv1", "block1_conv2", "logits"]),
    hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=4, max_side=5)),
)


@given(MASKS)
@settings(max_examples=50, deadline=None)
def test_masks_come_back(masks):
    out = unpack_masks(pack_masks(masks))
    assert set(out) == set(masks)
    for name, mask in masks.items():
        assert out[name].dtype == np.bool_
        np.testing.assert_array_equal(out[name], mask)


def test_masks_take_one_bit_a_weight():
    mask = np.random.default_rng(0).random((3, 3, 256, 256)) < 0.5
    assert len(pack_masks({"conv": mask})) < mask.size / 8 + 2000


def test_torn_masks_are_refused():
    content = pack_masks({"conv": np.ones((3, 3, 4, 4), dtype=bool)})
    with pytest.raises(ValueError):
        unpack_masks(content[:-40])


def test_the_hash_is_of_names_shapes_and_bytes_and_frozen():
    weights: dict[str, np.ndarray] = {
        "b": np.arange(6, dtype=np.float32),
        "a": np.ones((2, 2), dtype=np.float32),
    }
    known = weights_sha256(weights)
    assert known[:16] == "1c967e2529058590"
    assert weights_sha256(dict(reversed(weights.items()))) == known
    changed: tuple[dict[str, np.ndarray], ...] = (
        {**weights, "b": weights["b"].reshape(2, 3)},
        {**weights, "b": weights["b"] + 1},
        {**weights, "b": weights["b"].astype(np.float64)},
        {"b": weights["b"], "c": weights["a"]},
    )
    assert len({weights_sha256(other) for other in changed} | {known}) == 5
