"""Parsing shared by the commands: one line for every mistake."""

from argparse import ArgumentError
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import yaml
from jsonargparse import ArgumentParser

from quantflux_sb3.settings import Settings, WalkForwardSettings

AnySettings = TypeVar("AnySettings", bound=Settings)


class ParsingError(ValueError):
    """A mistake on the command line or in a configuration file."""


def parse(parser: ArgumentParser, argv: list[str]) -> Any:
    """
    :param parser: made with ``exit_on_error=False``
    :param argv: arguments
    :return: namespace with dataclasses instantiated
    :raises ParsingError: with one line that says what is wrong
    """
    files = _config_files(argv)
    for path in files:
        check_config_file(path)
    try:
        return parser.instantiate(parser.parse_args(argv))
    except ArgumentError as error:
        raise ParsingError(f"{_plainer(error.message, files)} (see {parser.prog} --help)") from error


def _plainer(message: str, files: list[str]) -> str:
    """The parser's own words, with the flags that are missing and the file that holds a key it does not know."""
    required, colon, names = message.partition("arguments are required: ")
    if colon:
        flags = ("--" + name.replace("repo_id", "repo-id") for name in names.split(", "))
        return f"{required}{colon}{', '.join(flags)}"
    if files and "accept" in message:  # a flag that it does not know, it calls unrecognized
        return f"'{', '.join(files)}': {message}"
    return message


def _config_files(argv: list[str]) -> list[str]:
    following = [after for flag, after in pairwise(argv) if flag == "--config"]
    return [*following, *(argument.partition("=")[2] for argument in argv if argument.startswith("--config="))]


def check_config_file(path: str) -> None:
    """
    What jsonargparse passes over or explains badly: a file that is no YAML mapping, or a section that is no mapping.

    :param path: of the file
    :raises ParsingError: with one line that says what is wrong
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise ParsingError(f"The configuration '{path}' cannot be read as YAML: {reason}") from error
    if not isinstance(content, dict):
        raise ParsingError(f"The configuration '{path}' must be a mapping of settings; got {type(content).__name__}.")
    for section in (item.name for item in fields(Settings) if is_dataclass(item.type)):
        if section in content and not isinstance(content[section], dict):
            raise ParsingError(f"`{section}` in '{path}' must be a mapping of settings; got {content[section]!r}.")


def settings_parser(program: str, description: str, settings_class: type[Settings] = Settings) -> ArgumentParser:
    """
    :param program: shown in the help
    :param description: shown in the help
    :param settings_class: :class:`quantflux_sb3.settings.Settings`, or a class with further fields
    :return: parser whose flags are the fields of that class, or a ``--config`` file of them
    """
    parser = ArgumentParser(prog=program, exit_on_error=False, description=description)
    parser.add_argument("--config", action="config", help="YAML file of settings; flags override it")
    parser.add_argument("--tickers", nargs="+", type=str, default=None, help="assets (default: six bundled US stocks)")
    shown = "baselines beside the agent (default: all)"
    parser.add_argument("--baselines", nargs="+", type=str, default=None, help=shown)
    parser.add_argument("--offline", action="store_true", help="never use the network")
    skip = {"tickers", "baselines", "offline"}
    if issubclass(settings_class, WalkForwardSettings):
        parser.add_argument("--baselines_only", action="store_true", help="no agents")
        skip.add("baselines_only")
    parser.add_class_arguments(settings_class, skip=skip)
    return parser


def to_settings(options: Any, settings_class: type[AnySettings] = Settings) -> AnySettings:
    """
    :param options: what :func:`parse` made of the flags of :func:`settings_parser`
    :param settings_class: that the parser was made for
    """
    values = {item.name: getattr(options, item.name) for item in fields(settings_class)}
    for name in ("tickers", "baselines"):
        values[name] = tuple(values[name]) if values[name] else None
    for name in ("prices", "rates", "signals", "cache_dir"):  # a run can be resumed anywhere
        values[name] = str(Path(values[name]).resolve()) if values[name] else None
    return settings_class(**values)
