"""Parsing shared by the commands: one line for every mistake."""

from argparse import ArgumentError
from typing import Any

from jsonargparse import ArgumentParser


class ParsingError(ValueError):
    """A mistake on the command line or in a configuration file."""


def parse(parser: ArgumentParser, argv: list[str]) -> Any:
    """
    :param parser: made with ``exit_on_error=False``
    :param argv: arguments
    :return: namespace with dataclasses instantiated
    :raises ParsingError: with one line that says what is wrong
    """
    try:
        return parser.instantiate(parser.parse_args(argv))
    except ArgumentError as error:
        raise ParsingError(f"{error.message} (see {parser.prog} --help)") from error
