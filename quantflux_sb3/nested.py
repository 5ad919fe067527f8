"""Nested mappings: settings and figures."""

from collections.abc import Iterator, Mapping
from typing import Any


def flattened(content: Mapping[str, Any], joint: str = ".") -> Iterator[tuple[str, Any]]:
    """
    :param content: nested mappings, of settings say
    :param joint: between the names of the levels
    :return: leaves by their full names
    """
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}{joint}{inner}", leaf) for inner, leaf in flattened(value, joint))
        else:
            yield str(name), value
