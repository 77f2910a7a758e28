"""What a page is made of: sections, and the blocks in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pyarrow

from fastnorm.io import Rejected
from fastnorm.text import printable

Item = TypeVar("Item")
_NUMBER = re.compile(r"[\d\u2212]|\u2013?$")
"""The start of what is a number, perhaps with its interval; or a dash, or nothing."""

UNREADABLE = (
    ValueError,
    OSError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    pyarrow.ArrowException,
)
"""What an artefact raises that is damaged, gone, or not what it says."""


@dataclass(frozen=True)
class Block:
    """Something on the page; the template has a macro for every kind.

    Attributes
    ----------
    kind : str
        Name of the macro.
    content : dict
        What it needs, by name.
    """

    kind: str
    content: dict[str, Any]


@dataclass
class Section:
    """A heading, a sentence, and what is shown.

    Attributes
    ----------
    key : str
        Anchor of the section.
    title, says : str
    blocks : list of Block
    """

    key: str
    title: str
    says: str
    blocks: list[Block] = field(default_factory=list)


def heading(text: str, badge: Block | None = None) -> Block:
    return Block("heading", {"text": text, "badge": badge})


def text(words: str) -> Block:
    return Block("text", {"text": words})


def note(words: str) -> Block:
    """What is missing, and what would bring it."""
    return Block("note", {"text": words})


def missing(what: str, command: str) -> Block:
    """Say that nothing was found for a section, and which command makes it."""
    return Block("missing", {"what": what, "command": command})


def unreadable(item: Rejected) -> Block:
    return Block("unreadable", {"path": printable(item.path), "reason": printable(item.reason)})


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Block:
    """A table whose first column heads its rows; columns of numbers are aligned to the right."""
    filled = [[str(value) for value in row] for row in rows]
    columns = list(zip(*filled, strict=True)) or [()] * len(head)
    is_number = [all(_NUMBER.match(value) for value in column) for column in columns]
    content = {"caption": caption, "head": list(zip(head, is_number, strict=True))}
    return Block(
        "table",
        content | {"rows": [list(zip(row, is_number, strict=True)) for row in filled]},
    )


def picture(uri: str, alt: str, caption: str) -> Block:
    return Block("picture", {"uri": uri, "alt": alt, "caption": caption})


def details(title: str, blocks: Sequence[Block]) -> Block:
    """Blocks that are shown on demand, and in print."""
    return Block("details", {"title": title, "blocks": list(blocks)})


def code(words: str) -> Block:
    return Block("code", {"text": words})


def each(
    items: Iterable[Item],
    path_of: Callable[[Item], Path],
    make: Callable[[Item], list[Block]],
    rejected: list[Rejected],
) -> list[Block]:
    """Blocks of every artefact; of one that cannot be read, a notice that names it and says why.

    Parameters
    ----------
    items : iterable
    path_of : function
        The file of an item.
    make : function
        The blocks of an item.
    rejected : list of Rejected
        Those that cannot be read are added.
    """
    blocks: list[Block] = []
    for item in items:
        try:
            blocks += make(item)
        except UNREADABLE as error:
            rejected.append(Rejected(path_of(item), reason_of(error)))
            blocks.append(unreadable(rejected[-1]))
    return blocks


def reason_of(error: BaseException) -> str:
    """What an error says; of a missing entry, that it is one."""
    if isinstance(error, KeyError):
        return f"lacks the entry {error}; make it anew."
    if isinstance(error, TypeError | AttributeError | IndexError):
        return f"is not what it should be ({type(error).__name__}: {error}); make it anew."
    return str(error)


def in_script(text: str) -> str:
    """JSON that may stand in a script element, whatever names it holds."""
    return text.replace("<", "\\u003c")
