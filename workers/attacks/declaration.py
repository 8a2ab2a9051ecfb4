"""How an attack declares itself: its options, its norm, what it finds. Standard library only.

`attack` registers a class (see `algorithms/`), and an `AttackEntry` is what the catalog shows of
it. The fields of the class are the options of the attack, made by `count`, `real` and `switch`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

from prunegrid.workers.contract import Finds
from prunegrid.workers.contract import Norm as Norm  # attacks take it from here
from prunegrid.workers.keys import Scalar
from prunegrid.workers.user_code import UserCode, UserCodeError
from prunegrid.workers.user_options import Option, Spends, read_signature

if TYPE_CHECKING:
    from prunegrid.workers.attacks.base import Attack

NORMS: tuple[Norm, ...] = get_args(Norm)
AttackEngine = Literal["strict", "foolbox", "foolbox-stock"]
#: Parameters of a user's function that are no options.
GIVEN = ("network", "images", "labels", "eps", "rngs", "tick")

#: In `broken_by`: the part of an attack that sees scores alone, and no gradients.
SCORES_ALONE = "square"

_OPTION = "option"
T = TypeVar("T", int, float, bool)


def count(
    default: int,
    doc: str,
    *,
    minimum: int = 1,
    search: tuple[int, int] | None = None,
    spends: Spends | None = None,
) -> int:
    """A field of an attack's class: a whole number."""
    return _field(default, type="int", doc=doc, minimum=minimum, search=search, spends=spends)


def real(
    default: float, doc: str, *, minimum: float = 0.0, search: tuple[float, float] | None = None
) -> float:
    """A field of an attack's class: a number."""
    return _field(default, type="float", doc=doc, minimum=minimum, search=search)


def switch(default: bool, doc: str) -> bool:
    """A field of an attack's class: true or false."""
    return _field(default, type="bool", doc=doc)


def _field(default: T, **traits: object) -> T:
    return dataclasses.field(default=default, metadata={_OPTION: {"default": default, **traits}})


@dataclass(frozen=True, kw_only=True)
class AttackEntry:
    """What the catalog knows of an attack."""

    name: str
    title: str
    norm: Norm
    finds: Finds
    gradients: bool = True  #: False: needs the model's decisions or scores alone
    #: Whose gradient it follows. "margin": of the label's score less the best other one.
    loss: Literal["cross-entropy", "margin"] = "cross-entropy"
    foolbox_class: str | None = None  #: of foolbox.attacks, which `foolbox-stock` runs
    implementation: type[Attack] | None = None  #: set by `attack`; None: Foolbox's class alone
    function: UserCode | None = None  #: the user's, instead; see `function_attack.py`
    #: Raised where `strict` runs another algorithm by this name than it did.
    edition: int = 1
    #: The name by which `strict` ran it in edition 1 of that name; its results keep their keys.
    first_name: str | None = None
    step_passes: int = 1  #: queries of a step
    #: Queries of an image beyond its steps: for each round of them, in all, and in all by
    #: `strict` (at most).
    round_extra: int = 0
    extra: int = 3
    strict_extra: int = 3

    @functools.cached_property
    def options(self) -> tuple[Option, ...]:
        """The fields of the implementation, or the function's parameters; none where its source is
        not on this machine."""
        if self.function is not None:
            with contextlib.suppress(UserCodeError):
                return read_signature(self.function.target, GIVEN).options
            return ()
        fields = dataclasses.fields(self.implementation) if self.implementation else ()
        return tuple(Option(name=field.name, **field.metadata[_OPTION]) for field in fields)

    @functools.cached_property
    def engines(self) -> tuple[AttackEngine, ...]:
        if self.function is not None:
            return ("strict",)
        own = self.implementation.engines() if self.implementation else ()
        return (*own, "foolbox-stock") if self.foolbox_class else own

    def called(self, engine: AttackEngine) -> tuple[str, int]:
        """`attack` and `edition` of the settings by which an engine runs it."""
        if self.first_name is not None:
            return self.first_name, 1
        return self.name, self.edition if engine == "strict" else 1

    @property
    def rounds(self) -> tuple[str, ...]:
        """Options whose product is the most steps that it takes for an image (and eps, where it
        has them); a budget of queries is spent on the last one. (): unknown."""
        kinds: tuple[Spends, ...] = ("rounds", "steps")
        return tuple(o.name for kind in kinds for o in self.options if o.spends == kind)

    def most_steps(self, given: Mapping[str, Scalar]) -> int | None:
        """The product of `rounds`, with these options; None: unknown."""
        if not self.rounds:
            return None
        values = self.complete(given)
        return math.prod(int(values[name] or 1) for name in self.rounds)

    def complete(self, given: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """`given`, and the defaults of all other options. Raises ValueError on unknown options
        of an attack that declares its options."""
        defaults = {option.name: option.default for option in self.options}
        if defaults and (unknown := sorted(set(given) - set(defaults))):
            raise ValueError(f"{self.name}: expected options {sorted(defaults)}, got {unknown}")
        return defaults | dict(given)

    def make(self, given: Mapping[str, Scalar]) -> Attack:
        """The attack with these options. Raises ValueError on unknown options and wrong types."""
        if self.function is not None:
            from prunegrid.workers.attacks.function_attack import FunctionAttack

            code = dataclasses.replace(self.function, options=tuple(sorted(given.items())))
            return FunctionAttack(code=code, norm=self.norm)
        if self.implementation is None:
            raise ValueError(f"{self.name}: runs by foolbox-stock alone")
        values = self.complete(given)
        return self.implementation(**{o.name: o.typed(values[o.name]) for o in self.options})


#: Every attack whose module was imported, by name. `workers.catalog` imports all of them.
DECLARED: dict[str, AttackEntry] = {}

A = TypeVar("A", bound="type[Attack]")


def attack(entry: AttackEntry) -> Callable[[A], A]:
    """Register a class as the implementation of `entry`.

    Raises ValueError where the name is taken, a field is no option, or no engine can run it.
    """

    def register(implementation: A) -> A:
        declared = dataclasses.replace(entry, implementation=implementation)
        if not declared.engines:
            raise ValueError(f"{entry.name}: expected a method strict or foolbox, or foolbox_class")
        for field in dataclasses.fields(implementation):
            if _OPTION not in field.metadata:
                raise ValueError(f"{entry.name}: {field.name}: expected count, real or switch")
        if entry.name in DECLARED:
            raise ValueError(f"{entry.name}: declared twice")
        DECLARED[entry.name] = declared
        return implementation

    return register
