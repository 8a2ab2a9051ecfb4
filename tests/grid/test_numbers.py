"""Numbers as people write them; two eps are the same where their floats are equal."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.orchestrator.names import eps_text, named_numbers, number_text, parse_number

POSITIVE = st.floats(min_value=1e-9, max_value=1e9)
#: Two eps that nearly agree, and what each of them is called.
NEAR = (8 / 255, 0.0313725490)


@pytest.mark.parametrize(
    ("text", "number"),
    [("8/255", 8 / 255), (" 4 / 255 ", 4 / 255), ("8.0", 8), ("1e-3", 0.001), ("-2", -2)],
)
def test_numbers_are_read_as_people_write_them(text, number):
    assert parse_number(text) == number


@pytest.mark.parametrize("text", ["", "eight", "1/0", "1/2/3", "8/", "/255", "0x10", "1 2"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(ValueError):
        parse_number(text)


@given(st.integers())
def test_a_whole_number_stays_exact(number):
    assert parse_number(str(number)) == number


@given(POSITIVE)
def test_a_number_reads_back(value):
    assert parse_number(number_text(value)) == value


@given(POSITIVE, st.sampled_from(["linf", "l2"]))
def test_an_eps_reads_back(value, norm):
    assert parse_number(eps_text(norm, value)) == value


@given(st.integers(1, 4 * 255).map(lambda quarters: quarters / 4))
def test_a_part_of_255_is_shown_as_one_or_plain(part):
    assert eps_text("linf", part / 255) == f"{part:g}/255"
    assert number_text(part / 255) in (f"{part / 255:g}", f"{part:g}/255")


@given(st.lists(POSITIVE, min_size=1, unique=True), st.data())
def test_a_number_names_itself_alone(values, data):
    value = data.draw(st.sampled_from(values))
    assert named_numbers(number_text(value), values) == [value]


def test_two_eps_that_differ_in_the_last_bit_stay_apart():
    values = [8 / 255, math.nextafter(8 / 255, 1)]
    for value in values:
        assert named_numbers(repr(value), values) == [value]
    assert named_numbers("8/255", values) == values[:1]


def test_a_rounded_copy_names_what_it_is_a_copy_of():
    assert named_numbers("0.0313725", [4 / 255, 8 / 255]) == [8 / 255]
    assert named_numbers("0.0313725", NEAR) == [*NEAR], "either may be meant"
    assert named_numbers("0.031372549", NEAR) == [NEAR[1]], "equal comes before rounded"


@pytest.mark.parametrize("text", ["0.03", "0.03137", "3", "7.99999/255", "nan", "inf"])
def test_few_digits_are_no_copy(text):
    assert named_numbers(text, [8 / 255, 3.2]) == []
