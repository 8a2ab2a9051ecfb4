"""Mid-task state: whole, or as if it were not there."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from prunegrid.workers import checkpoints, layout
from prunegrid.workers.checkpoints import Checkpoint, pack, unpack
from prunegrid.workers.files import LocalFiles

ARRAYS = {"model:conv1/kernel": np.arange(12, dtype=np.float32).reshape(3, 4), "n": np.array(3)}
STATE = {"epoch": 2, "best": float("inf"), "history": [{"loss": 0.1}]}
NAMES = st.text("abz/:_", min_size=1, max_size=8)
VALUES = hnp.arrays(
    st.sampled_from([np.float32, np.int64, np.uint8, np.bool_]),
    hnp.array_shapes(min_dims=0, min_side=0),
)


@pytest.fixture
def checkpoint(tmp_path):
    return Checkpoint(LocalFiles(tmp_path), "train-1")


@given(st.dictionaries(NAMES, VALUES, max_size=4))
@settings(max_examples=50, deadline=None)
def test_arrays_come_back_bit_for_bit(arrays):
    out = unpack(pack(arrays))
    assert set(out) == set(arrays)
    for name, array in arrays.items():
        assert (out[name].dtype, out[name].shape) == (array.dtype, array.shape)
        assert out[name].tobytes() == array.tobytes()


def test_state_comes_back(checkpoint):
    checkpoint.save(ARRAYS, STATE)
    saved = checkpoint.load()
    assert saved is not None
    assert saved.state == STATE
    np.testing.assert_array_equal(saved.arrays["model:conv1/kernel"], ARRAYS["model:conv1/kernel"])
    assert set(saved.arrays) == set(ARRAYS)


def test_a_checkpoint_of_other_code_is_not_gone_on_with(checkpoint, tmp_path, monkeypatch):
    checkpoint.save(ARRAYS, STATE)
    assert Checkpoint(LocalFiles(tmp_path), "train-1").load() is not None
    assert Checkpoint(LocalFiles(tmp_path), "train-1", users="edited").load() is None
    monkeypatch.setattr(checkpoints, "CODE", dataclasses.replace(checkpoints.CODE, digest="edited"))
    assert Checkpoint(LocalFiles(tmp_path), "train-1").load() is None


def test_the_last_save_wins_and_removal_is_final(checkpoint):
    assert checkpoint.load() is None
    checkpoint.save(ARRAYS, {"epoch": 1})
    checkpoint.save(ARRAYS, {"epoch": 2})
    saved = checkpoint.load()
    assert saved is not None
    assert saved.state == {"epoch": 2}
    checkpoint.remove()
    checkpoint.remove()
    assert checkpoint.load() is None


def test_torn_anywhere_is_as_if_absent(checkpoint, tmp_path):
    checkpoint.save(ARRAYS, STATE)
    path = tmp_path / layout.checkpoint_file("train-1", "state.npz")
    whole = path.read_bytes()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        assert checkpoint.load() is None, length


def test_a_flipped_byte_is_never_taken_for_a_weight(checkpoint, tmp_path):
    checkpoint.save(ARRAYS, STATE)
    path = tmp_path / layout.checkpoint_file("train-1", "state.npz")
    whole = path.read_bytes()
    for at in range(0, len(whole), 11):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        saved = checkpoint.load()
        if saved is not None:  # the flip was in a field that says nothing, such as a date
            assert saved.state == STATE
            for name, array in ARRAYS.items():
                assert saved.arrays[name].tobytes() == array.tobytes()


def test_nothing_in_a_file_is_executed():
    with pytest.raises(ValueError):
        pack({"evil": np.array([print], dtype=object)})
    sink = io.BytesIO()
    np.savez(sink, evil=np.array([print], dtype=object))
    with pytest.raises(ValueError):
        unpack(sink.getvalue())
