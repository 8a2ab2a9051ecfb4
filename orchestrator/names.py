"""Attacks, eps and numbers as people read them. Pure."""

from __future__ import annotations

from prunegrid.workers.catalog import attack_entry


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


def attack_title(attack: str) -> str:
    entry = attack_entry(attack)
    return entry.title.replace("Linf", "L∞") if entry else attack
