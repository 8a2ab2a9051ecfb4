"""Foolbox's attacks by class name, made with their options and checked. Imports no TensorFlow.

Run as a module it answers for attacks as JSON, from standard input to standard output: the driver
asks before a grid starts, and never imports Foolbox itself.
"""

from __future__ import annotations

import difflib
import inspect
import json
import sys
from collections.abc import Mapping
from typing import Any

from prunegrid.workers.attacks.declaration import AttackEntry
from prunegrid.workers.catalog import attack_entry
from prunegrid.workers.keys import Scalar

#: Options of the adapter, not of the class, and their types.
OURS = {"restarts": int, "nested": bool}


def foolbox_class(name: str) -> type:
    """A class of foolbox.attacks, short names such as LinfPGD included. Raises ValueError with
    near names where there is none."""
    import foolbox.attacks
    from foolbox.attacks.base import Attack

    known = {
        name: value
        for name, value in vars(foolbox.attacks).items()
        if inspect.isclass(value) and issubclass(value, Attack) and not inspect.isabstract(value)
    }
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"expected one of {sorted(known)}"
    raise ValueError(f"foolbox.attacks has no attack {name!r}; {hint}")


def make_attack(entry: AttackEntry, options: Mapping[str, Scalar]) -> Any:
    """The attack of Foolbox that an entry names, with these options.

    Raises ValueError on a class, options or values that Foolbox does not have, and on an attack
    whose norm is not the entry's; RuntimeError where the class needs numba and it is missing.
    """
    import foolbox.distances

    name = entry.foolbox_class
    if name is None:
        raise ValueError(f"{entry.name}: Foolbox has no such attack")
    found = foolbox_class(name)
    parameters = inspect.signature(found).parameters
    kinds = {key: parameter.annotation for key, parameter in parameters.items()} | OURS
    if unknown := sorted(set(options) - set(kinds)):
        raise ValueError(f"{name}: expected options of {sorted(kinds)}, got {unknown}")
    for key, value in options.items():
        if not _fits(value, kinds[key]):
            raise ValueError(f"{name}: {key}: expected {kinds[key].__name__}, got {value!r}")
    own: dict[str, Any] = {key: value for key, value in options.items() if key not in OURS}
    if "distance" in parameters:
        own["distance"] = getattr(foolbox.distances, entry.norm)
    try:
        attack = found(**own)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected options of {sorted(kinds)}: {error}") from error
    except ImportError as error:
        raise RuntimeError(
            f"Foolbox's {name} needs numba (pip install numba), got: {error}; "
            "the engines strict and foolbox do not"
        ) from error
    norms = {getattr(foolbox.distances, norm): norm for norm in ("l0", "l1", "l2", "linf")}
    norm = norms.get(getattr(attack, "distance", None))
    if norm != entry.norm:
        got = "one without a norm" if norm is None else f"an {norm.capitalize()} attack"
        raise ValueError(f"{name}: expected an attack in {entry.norm.capitalize()}, got {got}")
    return attack


def _fits(value: Scalar, kind: object) -> bool:
    """Whether a value is of an option's type, where that is a plain one."""
    if kind is bool or isinstance(value, bool):
        return isinstance(value, bool) and kind in (bool, inspect.Parameter.empty)
    if kind is int:
        return isinstance(value, int)
    return kind is not float or isinstance(value, int | float)


def minimises(attack: Any) -> bool:
    """Whether it finds the nearest adversarials, and takes no eps."""
    from foolbox.attacks.base import MinimizationAttack

    return isinstance(attack, MinimizationAttack)


def main() -> None:
    """[{"attack", "options"}] to [{"error": text or null, "minimises": bool}]."""
    answers = []
    for asked in json.load(sys.stdin):
        entry = attack_entry(asked["attack"])
        assert entry is not None
        try:
            attack = make_attack(entry, entry.complete(asked["options"]))
        except (ValueError, RuntimeError) as error:
            answers.append({"error": str(error), "minimises": False})
        else:
            answers.append({"error": None, "minimises": minimises(attack)})
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
