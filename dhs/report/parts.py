"""Sections of a page, and the blocks in them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from dhs.audit.artefact_checks import reason_of
from fastnorm.io import Rejected
from fastnorm.json_text import parse_json
from fastnorm.text import visible

Item = TypeVar("Item")
_NUMBER = re.compile(r"[\d\u2212]|\u2013?$")
"""Start of a cell that holds a number (with or without its interval), a dash, or nothing."""


@dataclass(frozen=True)
class Block:
    """An element of the page; the template has a macro for every kind.

    Attributes
    ----------
    kind : str
        Name of the macro.
    content : dict
        Arguments of the macro, by name.
    """

    kind: str
    content: dict[str, Any]


@dataclass
class Section:
    """A section of the page: a heading, an introduction, and blocks.

    Attributes
    ----------
    key : str
        Anchor of the section.
    title : str
        Heading.
    says : str
        Introduction, one or two sentences.
    blocks : list of Block
        Content.
    """

    key: str
    title: str
    says: str
    blocks: list[Block] = field(default_factory=list)


def heading(text: str, badge: Block | None = None) -> Block:
    """Return a heading, optionally with the badge of an annulus."""
    return Block("heading", {"text": text, "badge": badge})


def text(words: str) -> Block:
    """Return a paragraph."""
    return Block("text", {"text": words})


def note(words: str) -> Block:
    """Return a note that something is missing, and what would add it."""
    return Block("note", {"text": words})


def missing(what: str, command: str) -> Block:
    """Return a note that nothing was found for a section, with the command that creates it."""
    return Block("missing", {"what": what, "command": command})


def unreadable(item: Rejected) -> Block:
    """Return a note that a file could not be read, with the reason."""
    return Block("unreadable", {"path": str(item.path), "reason": item.reason})


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Block:
    """Return a table with row headers in its first column and numbers aligned to the right.

    Parameters
    ----------
    caption : str
        Caption of the table.
    head : sequence of str
        Column headers.
    rows : iterable of sequence
        Cells of every row; each is converted to str.
    """
    filled = [[str(value) for value in row] for row in rows]
    columns = list(zip(*filled, strict=True)) or [()] * len(head)
    is_number = [all(_NUMBER.match(value) for value in column) for column in columns]
    content = {"caption": caption, "head": list(zip(head, is_number, strict=True))}
    return Block(
        "table",
        content | {"rows": [list(zip(row, is_number, strict=True)) for row in filled]},
    )


def picture(uri: str, alt: str, caption: str) -> Block:
    """Return an image with a caption.

    Parameters
    ----------
    uri : str
        Data URI of the image.
    alt : str
        Description for screen readers.
    caption : str
        Caption below the image.
    """
    return Block("picture", {"uri": uri, "alt": alt, "caption": caption})


def details(title: str, blocks: Sequence[Block]) -> Block:
    """Return blocks that are shown on demand and in print."""
    return Block("details", {"title": title, "blocks": list(blocks)})


def code(words: str) -> Block:
    """Return a block of code."""
    return Block("code", {"text": words})


def each(
    items: Iterable[Item],
    path_of: Callable[[Item], Path],
    make: Callable[[Item], list[Block]],
    rejected: list[Rejected],
) -> list[Block]:
    """Return the blocks of every artefact, or a notice with the reason if it cannot be read.

    Parameters
    ----------
    items : iterable
        Artefacts.
    path_of : function
        Returns the file of an item.
    make : function
        Returns the blocks of an item.
    rejected : list of Rejected
        Items that cannot be read are appended.
    """
    blocks: list[Block] = []
    for item in items:
        try:
            blocks += make(item)
        except Exception as error:  # whatever is in one artefact, it hides no other
            rejected.append(Rejected(path_of(item), reason_of(error)))
            blocks.append(unreadable(rejected[-1]))
    return blocks


def in_script(text: str) -> str:
    """Escape JSON for a script element; its texts show all letters that would change others."""
    return json.dumps(_shown(parse_json(text))).replace("<", "\\u003c")


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible(key): _shown(entry) for key, entry in value.items()}
    return [_shown(entry) for entry in value] if isinstance(value, list) else value
