"""Parsing shared by the commands: one line for every mistake."""

from argparse import ArgumentError
from dataclasses import fields
from typing import Any

from jsonargparse import ArgumentParser

from quantflux_sb3.settings import Settings


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


def settings_parser(program: str, description: str) -> ArgumentParser:
    """
    :param program: shown in the help
    :param description: shown in the help
    :return: parser whose flags are the fields of :class:`quantflux_sb3.settings.Settings`, or a ``--config`` file of them
    """
    parser = ArgumentParser(prog=program, exit_on_error=False, description=description)
    parser.add_argument("--config", action="config", help="YAML file of settings; flags override it")
    parser.add_argument("--tickers", nargs="+", type=str, default=None, help="assets (default: six bundled US stocks)")
    parser.add_argument("--offline", action="store_true", help="never use the network")
    parser.add_class_arguments(Settings, skip={"tickers", "offline"})
    return parser


def to_settings(options: Any) -> Settings:
    """
    :param options: what :func:`parse` made of the flags of :func:`settings_parser`
    """
    values = {item.name: getattr(options, item.name) for item in fields(Settings)}
    return Settings(**{**values, "tickers": tuple(values["tickers"]) if values["tickers"] else None})
