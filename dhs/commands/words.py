"""Messages of functions, whose arguments are options of the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from fastnorm.terminal import fail

OPTIONS = {
    "overwrite=True": "--overwrite",
    "label_col='NAME'": "--label-col NAME",
    "id_col='NAME'": "--id-col NAME",
    "label_col": "--label-col",
    "id_col": "--id-col",
    "path_pattern": "--path-pattern",
}
"""Arguments as messages of Python name them, and options that mean the same; longer ones first."""
# A word of a file name or of a column, such as my_label_col, is no argument.
_ARGUMENT = re.compile(rf"(?<![\w/.-])(?:{'|'.join(map(re.escape, OPTIONS))})(?![\w/-])")
_BEGUN = re.compile(r"(?<![\w/.-])path_pattern='")


@contextmanager
def in_options() -> Iterator[None]:
    """Show errors with the options of the command line in place of the arguments of Python."""
    try:
        yield
    except (TypeError, ValueError, OSError) as error:
        text = str(error)
        said = _ARGUMENT.sub(lambda found: OPTIONS[found[0]], _BEGUN.sub("--path-pattern '", text))
        if said == text:
            raise
        fail(said)
