"""How a grid file names what a user brings: `module:function`, `options` and `version`."""

from __future__ import annotations

from collections.abc import Mapping

from prunegrid.orchestrator.grid.fields import Field, Kind, whole
from prunegrid.orchestrator.grid.yaml_nodes import YamlNode
from prunegrid.workers.user_code import OptionValue, UserCode, is_target


def _read_options(node: YamlNode) -> tuple[tuple[str, OptionValue], ...]:
    given = node.mapping(what="a mapping of parameters to values")
    return tuple(sorted((name, part.value()) for name, part in given.items()))


def _read_target(node: YamlNode) -> str:
    text = node.text()
    if not is_target(text):
        raise node.fail(f"expected module:function, such as mylab.nets:lenet, got {text!r}")
    return text


TARGET: Kind[str] = Kind("`module:function`", _read_target)
#: Keys beside the one that names the function; a table has them as its own.
OPTIONS: Field[tuple[tuple[str, OptionValue], ...]] = Field(
    Kind("mapping of parameters to values", _read_options),
    "keyword arguments of the function",
    default=(),
    shown="none",
)
VERSION: Field[int] = Field(
    whole(minimum=1), "raised where the function's results mean something else", default=1
)


def user_code(target: str, own: Mapping[str, YamlNode], node: YamlNode) -> UserCode:
    """`own`: the keys of `node`, the mapping that names it. Raises GridError."""
    return UserCode(target=target, options=OPTIONS.of(own, node), version=VERSION.of(own, node))
