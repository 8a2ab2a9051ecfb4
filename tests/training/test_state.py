"""Early stopping and the learning rate against Keras' own callbacks."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prunegrid.workers.training.state import TrainingState
from tests.science import training

LOSSES = st.lists(
    st.sampled_from([1.0, 0.9, 0.89995, 0.8, 0.79991, 0.79989, 0.5, 1.5]), min_size=1, max_size=30
)


def keras_says(losses, *, patience, factor, lr_patience, lr_min):
    """(epochs until the stop, learning rate after each) of the callbacks themselves."""
    import keras

    class Model:
        stop_training = False
        optimizer = keras.optimizers.SGD(0.001)

    model = Model()
    model.optimizer = keras.optimizers.SGD(0.001)
    stopping = keras.callbacks.EarlyStopping(monitor="val_loss", patience=patience)
    plateau = keras.callbacks.ReduceLROnPlateau(
        monitor="val_loss", factor=factor, patience=lr_patience, min_lr=lr_min
    )
    rates = []
    for callback in (stopping, plateau):
        callback.set_model(model)
        callback.on_train_begin()
    for epoch, loss in enumerate(losses):
        for callback in (stopping, plateau):
            callback.on_epoch_end(epoch, {"val_loss": loss})
        rates.append(float(model.optimizer.learning_rate.numpy()))
        if model.stop_training:
            break
    return len(rates), rates


@pytest.mark.tf
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras' own
@example([1 - 2e-5 * epoch for epoch in range(9)], 5, 3)  # better, but by less than counts
@given(LOSSES, st.integers(1, 5), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_as_keras(losses, patience, lr_patience):
    how = training(
        learning_rate=0.001,
        max_epochs=len(losses),
        early_stopping_patience=patience,
        lr_factor=0.3,
        lr_patience=lr_patience,
        lr_min=1e-5,
    )
    state, rates = TrainingState(learning_rate=0.001), []
    for loss in losses:
        state.end_epoch(loss, how)
        rates.append(state.learning_rate)
        if state.is_over(how):
            break
    epochs, expected = keras_says(
        losses, patience=patience, factor=0.3, lr_patience=lr_patience, lr_min=1e-5
    )
    assert state.epoch == epochs
    assert rates == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_it(loss):
    state = TrainingState(learning_rate=0.001)
    state.end_epoch(loss, training(max_epochs=9))
    assert state.diverged
    assert state.is_over(training(max_epochs=9))
    assert not state.stopped_early


def test_without_patience_it_runs_to_the_end():
    state, how = TrainingState(learning_rate=0.001), training(max_epochs=20)
    for _ in range(19):
        state.end_epoch(1.0, how)
        assert not state.is_over(how)
    state.end_epoch(1.0, how)
    assert state.is_over(how)
    assert state.learning_rate == 0.001
