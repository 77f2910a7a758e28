"""Configurations from YAML files, with values that the command line can replace."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from dhs.arguments import DATA_VARIABLE
from dhs.config.errors import describe
from dhs.config.installed import hint
from dhs.config.section import Section
from fastnorm.paths import local_path, open_file
from fastnorm.text import one_line

MOST_BYTES = 2**16
"""Largest size of a configuration; those of this project have at most 7,000 bytes."""
MOST_DEPTH = 20
MOST_DIGITS = 300

Config = TypeVar("Config", bound=Section)


def read_config_file(path: str | Path, model: type[Config], settings: Iterable[str] = ()) -> Config:
    """Read a configuration.

    Parameters
    ----------
    path : str or Path
        YAML file.
    model : type
        Model of the configuration.
    settings : iterable of str
        ``section.key=value``, each of which replaces a value of the file; the value is YAML.

    Returns
    -------
    Section
        Instance of ``model``.

    Raises
    ------
    OSError
        The file cannot be read. If it does not exist, the message names a similar file beside it,
        or else the nearest installed configuration.
    ValueError
        See `read_yaml`; or the file has an unknown key, lacks a key, or has an invalid value.
    """
    try:
        content = read_yaml(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} does not exist.{hint(Path(path), model)}") from error
    if not isinstance(content, dict):
        needed = ", ".join(
            name for name, field in model.model_fields.items() if field.is_required()
        )
        raise ValueError(f"{path} is not a configuration; it needs the sections {needed}.")
    for setting in settings:
        _apply(content, setting)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ValueError(describe(error, str(path), model)) from error


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file of plain values, without object tags, references or repeated keys.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        The file is larger than `MOST_BYTES`, not UTF-8, or not such YAML.
    """
    with open_file(local_path(path)) as stream:
        content = stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"{path} has more than {MOST_BYTES:,} bytes; is it a configuration?")
    try:
        return parse_yaml(content.decode("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error


def parse_yaml(text: str) -> Any:
    """Parse YAML of plain values, see `read_yaml`.

    Raises
    ------
    ValueError
        The text is not such YAML; the message is one line.
    """
    try:
        return yaml.load(text, _Loader)
    # PyYAML raises many kinds of errors for invalid numbers, dates and keys.
    except (
        yaml.YAMLError,
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
        ArithmeticError,
    ) as error:
        raise ValueError(one_line(str(error))) from error


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """A loader that refuses references, because a few lines of them can expand to fill memory."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        where = self.peek_event().start_mark
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(
                None, None, "references (*) are not allowed, repeat the value", where
            )
        if self.depth == MOST_DEPTH:
            raise yaml.composer.ComposerError(None, None, "it is nested too deeply", where)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_number(self, node: Any) -> Any:
        """Refuse what YAML 1.1 reads as a number that nobody means."""
        text = str(node.value)
        if ":" in text:
            fault = f"{text[:40]} is a number of base 60 in YAML; put it in quotation marks"
        elif re.fullmatch(r"[-+]?0[0-7_]+", text):
            fault = f"{text[:40]} is a number of base 8 in YAML; leave out the 0 at its start"
        elif len(text) > MOST_DIGITS:
            fault = f"a number of {len(text):,} digits is not allowed; at most {MOST_DIGITS} are"
        else:
            is_integer = node.tag.endswith(":int")
            value = self.construct_yaml_int(node) if is_integer else self.construct_yaml_float(node)
            if not (math.isinf(value) and "inf" not in text.lower()):
                return value
            fault = f"{text} is too large for a number"
        raise yaml.constructor.ConstructorError(None, None, fault, node.start_mark)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        result: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        if len(result) < len(node.value):
            raise yaml.constructor.ConstructorError(
                "while reading a mapping", node.start_mark, "a key appears twice", node.start_mark
            )
        return result


for _tag in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _Loader.construct_number)


def located(path: str) -> str:
    """Resolve a path of data; a relative one starts from the folder in ``DHS_DATA``.

    Raises
    ------
    ValueError
        The path, or the one in ``DHS_DATA``, is an address.
    """
    start = local_path(os.environ.get(DATA_VARIABLE, ""))
    return str(start / local_path(path)) if path else ""


def _apply(content: dict[str, Any], setting: str) -> None:
    name, equals, value = setting.partition("=")
    *sections, key = name.split(".")
    said = one_line(setting)
    if not equals or not all([*sections, key]):
        raise ValueError(
            f"--set {said} is not of the form section.key=value, for example train.lr=1e-4."
        )
    chosen = content
    for section in sections:
        chosen = chosen.setdefault(section, {})
        if not isinstance(chosen, dict):
            raise ValueError(f"--set {said}: {one_line(section)} is not a section.")
    try:
        chosen[key] = parse_yaml(value)
    except ValueError as error:
        raise ValueError(f"--set {said}: the value is not valid YAML: {error}") from error
