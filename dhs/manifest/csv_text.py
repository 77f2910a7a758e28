"""CSV files as other programs write them: comments first, other separators, spaces after them."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

SEPARATORS = (",", ";", "\t")
_BOM = b"\xef\xbb\xbf"


class CsvText(NamedTuple):
    """Text of a CSV file without comments and spaces after separators, and its separator."""

    content: bytes
    separator: str


def plain_csv(path: Path, content: bytes) -> CsvText:
    """Find the separator of a CSV file, and remove what surrounds its values.

    Lines at the start that begin with ``#`` are comments.

    Parameters
    ----------
    path : Path
        The file, for error messages.
    content : bytes
        Content of the file.

    Returns
    -------
    CsvText

    Raises
    ------
    ValueError
        The first line has no names of columns or one twice, or separates them by spaces.
    """
    start, comment = len(_BOM) if content.startswith(_BOM) else 0, b""
    while content.startswith(b"#", start):
        end = content.find(b"\n", start)
        end = len(content) if end < 0 else end
        comment, start = content[start:end], end + 1
    content = content[start:]
    header = content.partition(b"\n")[0].strip().decode("utf-8", "replace")
    bare = re.sub('"[^"]*"', "", header)
    separator = next((mark for mark in SEPARATORS if mark in bare), ",")
    if separator not in bare and re.search(r"\w\s+\w", bare):
        raise ValueError(
            f"{path}: its columns are separated by spaces (first line: {header[:80]!r}); separate "
            "them by commas."
        )
    if all(map(_is_number, bare.split(separator))):
        said = comment.decode("utf-8", "replace").strip()
        hint = f" Remove the # from the line before it, {said[:80]!r}." if said else ""
        raise ValueError(
            f"{path}: its first line, {header[:80]!r}, has numbers instead of the names of the "
            f"columns.{hint}"
        )
    names = next(csv.reader(header.splitlines()[:1], delimiter=separator), [])
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{path} has the column {twice[0]!r} more than once; keep one.")
    mark = re.escape(separator.encode())
    if re.search(rb"[ ]" + mark + rb"|" + mark + rb"[ ]", content):
        content = _without_spaces(content, separator)
    return CsvText(content, separator)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _without_spaces(content: bytes, separator: str) -> bytes:
    """Remove the spaces around values, but not those inside of quotation marks."""
    text = io.StringIO(content.decode("utf-8"), newline="")
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=separator, lineterminator="\n")
    for row in csv.reader(text, delimiter=separator, skipinitialspace=True, strict=True):
        writer.writerow([value.strip(" ") for value in row])
    return out.getvalue().encode("utf-8")
