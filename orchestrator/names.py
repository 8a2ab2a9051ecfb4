"""Attacks, eps and numbers as people read and write them, and when two numbers are the same. Pure.

One rule for eps and rates: a text is read into a float once, and two floats are the same where they
are equal, to the last bit. Task keys and cell names are hashes of these floats, so any tolerance
would give the rows of one eps to another. `==`, `groupby` and `merge` on an eps column follow the
rule by themselves; nothing rounds an eps but to show it.
"""

from __future__ import annotations

from collections.abc import Iterable

from prunegrid.workers.catalog import attack_entry

#: So many digits show that a number was copied from where it stands rounded.
_COPIED_DIGITS = 6


def number_text(value: float) -> str:
    """The shortest text that reads back as `value`: plain, else over 255, else every digit."""
    value = float(value)
    plain = f"{value:g}"
    return plain if float(plain) == value else _over_255(value) or repr(value)


def eps_text(norm: str, eps: float) -> str:
    """`8/255` for L-infinity, a plain number else; two eps that differ have two texts."""
    return (norm == "linf" and _over_255(float(eps))) or number_text(eps)


def _over_255(value: float) -> str:
    """ "" where no short number over 255 reads back as `value`."""
    top = f"{round(value * 255, 3):g}"
    return f"{top}/255" if float(top) / 255 == value else ""


def counted(number: int, noun: str) -> str:
    """`1 task`, `1,155 tasks`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size_text(size_bytes: float) -> str:
    """`312 kB`, `4.5 MB`, `120 MB`, `2.3 GB`."""
    unit, size = "GB", 1e9
    if size_bytes < 1e9:
        unit, size = ("MB", 1e6) if size_bytes >= 1e6 else ("kB", 1e3)
    number = size_bytes / size
    return f"{number:,.0f} {unit}" if number >= 10 else f"{number:.1f} {unit}"


def attack_title(attack: str) -> str:
    entry = attack_entry(attack)
    return entry.title.replace("Linf", "L∞") if entry else attack


def parse_number(text: str) -> int | float:
    """`2`, `0.5`, `1e-3`, or a fraction of two of them; a whole number stays exact. Infinities and
    NaN are numbers here. Raises ValueError."""
    try:
        return int(text)
    except ValueError:
        top, slash, bottom = text.partition("/")
    if not slash:
        return float(text)
    try:
        return float(top) / float(bottom)
    except ZeroDivisionError:
        raise ValueError(f"{text!r} divides by zero") from None


def named_numbers(text: str, values: Iterable[float]) -> list[float]:
    """Those of `values` that `text` names: the equal one, else those that it is a rounded copy of,
    in six digits or more (`0.0313725` for 8/255). Raises ValueError where it is no number."""
    number = parse_number(text)
    known = list(values)
    equal = [value for value in known if value == number]
    mantissa = text.strip().lower().partition("e")[0]
    digits = len(mantissa.replace(".", "").lstrip("+-0"))
    if equal or "." not in mantissa or "/" in text or digits < _COPIED_DIGITS:
        return equal
    return [value for value in known if float(f"{value:.{digits}g}") == number]
