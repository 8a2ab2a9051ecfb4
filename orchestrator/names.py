"""Attacks and eps as people read them. Pure."""

from __future__ import annotations

from prunegrid.workers.catalog import attack_entry


def eps_text(norm: str, eps: float) -> str:
    """`8/255` for L-infinity, a plain number else."""
    if norm == "linf":
        return f"{round(eps * 255, 3):g}/255"
    return f"{eps:g}"


def attack_title(attack: str) -> str:
    entry = attack_entry(attack)
    return entry.title.replace("Linf", "L∞") if entry else attack
