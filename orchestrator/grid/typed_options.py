"""Options in a grid file, by what the function or attack that has them declares."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from prunegrid.orchestrator.errors import expected
from prunegrid.orchestrator.grid.user_fields import VERSION
from prunegrid.orchestrator.grid.yaml_nodes import YamlNode
from prunegrid.workers.keys import Scalar
from prunegrid.workers.user_code import UserCode, UserCodeError
from prunegrid.workers.user_options import Option, read_signature


def read_option(node: YamlNode, option: Option) -> Scalar:
    """Raises GridError."""
    if option.optional:
        return node.optional(lambda given: _read(given, option))
    return _read(node, option)


def _read(node: YamlNode, option: Option) -> Scalar:
    if option.type == "bool":
        return node.boolean()
    if option.type == "str":
        return node.text()
    low = None if option.minimum is None else int(option.minimum)
    high = None if option.maximum is None else int(option.maximum)
    if option.type == "int":
        return node.integer(minimum=low, maximum=high)
    return node.number(minimum=option.minimum, maximum=option.maximum)


def typed_code(
    target: str, own: Mapping[str, YamlNode], node: YamlNode, *, given: Collection[str]
) -> UserCode:
    """The function at `target` with all its options: the given ones, by their types and bounds, and
    the defaults of the others. `own`: the keys of `node`, with `options` and `version`; `given`:
    parameters that are no options. Raises GridError."""
    try:
        signature = read_signature(target, given)
    except UserCodeError as error:
        raise node.fail(str(error)) from error
    options = {option.name: option for option in signature.options}
    values = typed_values(target, options, own.get("options"))
    for option in signature.options:
        if option.required and option.name not in values:
            raise own.get("options", node).fail(
                f"expected the option {option.name!r} of {target}, which has no default"
            )
    return UserCode(
        target=target, options=signature.complete(values), version=VERSION.of(own, node)
    )


def typed_values(
    target: str, options: Mapping[str, Option], node: YamlNode | None
) -> dict[str, Scalar]:
    """`node`: the mapping of options that are given. Raises GridError."""
    values = {}
    for name, part in ({} if node is None else node.mapping(what="a mapping of options")).items():
        if name not in options:
            choices = expected(options, name) if options else f"expected none, got {name!r}"
            raise part.fail(f"unknown option of {target}: {choices}")
        values[name] = read_option(part, options[name])
    return values
