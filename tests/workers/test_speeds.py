from __future__ import annotations

import pytest

from prunegrid.workers.speeds import Speed


def speed(sizes: tuple[int, ...], *passes_per_s: float) -> Speed:
    return Speed(
        architecture="cnn5",
        dataset="mnist",
        device="d",
        host="h",
        threads=1,
        measured_at="",
        sizes=sizes,
        passes_per_s=passes_per_s,
    )


@pytest.mark.parametrize(
    ("passes_per_s", "most", "best"),
    [
        ((100.0, 104.0, 103.0), 1000, 16),
        ((100.0, 150.0, 152.0), 1000, 32),
        ((100.0, 104.0, 106.0), 1000, 64),
        ((100.0, 150.0, 200.0), 63, 32),
        ((100.0, 150.0, 200.0), 3, 16),
    ],
)
def test_the_smallest_batch_that_no_larger_one_clearly_beats(passes_per_s, most, best):
    assert speed((16, 32, 64), *passes_per_s).best(most) == best


@pytest.mark.parametrize(
    ("batch", "rate"), [(1, 10.0), (16, 10.0), (63, 20.0), (64, 30.0), (900, 30.0)]
)
def test_the_speed_at_a_batch_is_that_of_the_largest_measured_one_up_to_it(batch, rate):
    assert speed((16, 32, 64), 10.0, 20.0, 30.0).at(batch) == rate


@pytest.mark.parametrize(
    ("sizes", "passes_per_s"),
    [
        ((), ()),
        ((16,), (1.0, 2.0)),
        ((32, 16), (1.0, 2.0)),
        ((16, 16), (1.0, 2.0)),
        ((16,), (0.0,)),
        ((16,), (float("nan"),)),
        ((0,), (1.0,)),
    ],
)
def test_what_is_no_measurement_is_refused(sizes, passes_per_s):
    with pytest.raises(ValueError, match="expected a speed above 0"):
        speed(sizes, *passes_per_s)
