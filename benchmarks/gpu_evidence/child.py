"""The process of one part: ``python -m benchmarks.gpu_evidence.child MODULE:FUNCTION FILE``.

Every row is written as soon as it is known, so that a crash loses only what came after it.
"""

from __future__ import annotations

import importlib
import json
import math
import sys
from pathlib import Path
from typing import Any

from benchmarks.gpu_evidence.reasons import NotMeasuredError, is_rehearsal, one_line
from fastnorm.atomic import atomic_path


def run(target: str, file: Path) -> None:
    """Run a part, and write its rows and why it ended to a JSON file.

    An exception of the part is recorded and raised again, so that its traceback is printed.
    """
    state: dict[str, Any] = {"rows": [], "is_complete": False, "not_measured": "", "error": ""}
    try:
        module, _, function = target.partition(":")
        for row in getattr(importlib.import_module(module), function)():
            state["rows"].append(row)
            _write(state, file)
        state["is_complete"] = True
    except NotMeasuredError as error:
        state["not_measured"] = str(error)
    except ModuleNotFoundError as error:
        state["not_measured"] = f"needs {(error.name or str(error)).partition('.')[0]}"
    except BaseException as error:
        state["error"] = one_line(error)
        raise
    finally:
        _write(state, file)


def _write(state: dict[str, Any], file: Path) -> None:
    content = json.dumps(plain(state | {"device": _device()}), allow_nan=False)
    with atomic_path(file) as temporary:
        temporary.write_text(content, "utf-8")


def _device() -> str:
    """Return ``cuda`` or ``cpu``, without importing torch for it."""
    torch: Any = sys.modules.get("torch")
    if torch is None or is_rehearsal() or not torch.cuda.is_available():
        return "cpu"
    return "cuda"


def plain(value: Any) -> Any:
    """Return a value in the types of strict JSON; infinities and NaN become text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]))
