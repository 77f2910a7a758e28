"""Old .pt files as tensors and plain values, read without unpickling other objects."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dhs.checkpoint.file import CheckpointError
from fastnorm.paths import open_file, require_file
from fastnorm.text import one_line

WEIGHTS_KEYS = ("model", "state_dict", "model_state_dict", "state_dict_ema", "model_ema")
"""Entries under which programs save the state dict of a network."""
WRAPPERS = ("module.", "_orig_mod.", "model.")
"""Prefixes that wrappers of a network add to its names: DistributedDataParallel and
AveragedModel, torch.compile, and the modules of Lightning."""
AVERAGED = "n_averaged"
"""Name of the counter of torch.optim.swa_utils.AveragedModel, beside the network's names."""

# scikit-learn's metrics are NumPy scalars, which NumPy 1 defines in another module. Scalars of
# objects and of structures could hold more than a number, so their dtypes are not accepted.
_CORES = ("core", "_core")
_SCALAR = np.float64(0).__reduce__()[0]
_KINDS = "?" + np.typecodes["AllInteger"] + np.typecodes["AllFloat"] + "SU"
_SCALARS: list[Any] = [
    np.dtype,
    *{type(np.dtype(kind)) for kind in _KINDS},
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in _CORES),
]
_REFUSED = re.compile(
    r"GLOBAL ([\w.]+)|but got <class '([\w.]+)'>|unrecognized function <\w+ ([\w.]+)"
)


class Weights(NamedTuple):
    """A state dict of an old file.

    ``key``: its entry. ``state``: its tensors, without the prefixes of wrappers. ``others``:
    further entries of the file with a state dict.
    """

    key: str
    state: dict[str, Tensor]
    others: tuple[str, ...]


def read_plain(path: Path) -> dict[str, Any]:
    """Return the dict in a file that has only tensors and plain values.

    Raises
    ------
    FileNotFoundError
        The file does not exist.
    CheckpointError
        It cannot be read without running code, or has no dict.
    """
    require_file(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file; give the .pt file.")
    with open_file(path) as stream:
        content = _unpickled(path, stream)
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} has a {type(content).__name__}; an old checkpoint is a dict with 'model'."
        )
    return {str(name): value for name, value in content.items()}


def _plain(value: Any) -> Any:
    """Replace scalars of NumPy by those of Python."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {_plain(name): _plain(entry) for name, entry in value.items()}
    if type(value) in (list, tuple, set):
        return type(value)(_plain(entry) for entry in value)
    return value


def _unpickled(path: Path, stream: BinaryIO) -> Any:
    try:
        with torch.serialization.safe_globals(_SCALARS), warnings.catch_warnings():
            # torch warns about foreign pickles, which are either read or refused here.
            warnings.simplefilter("ignore", UserWarning)
            return _plain(torch.load(stream, weights_only=True, map_location="cpu"))
    # Damaged pickles can raise any exception, including OSError.
    except Exception as error:
        said = str(error)
        if "TorchScript archives" in said:
            raise CheckpointError(
                f"{path} is a TorchScript archive, which holds a program. It is refused, because "
                "it can run any code. Save the state_dict() of the model instead, with its "
                "configuration."
            ) from error
        found = _REFUSED.search(said)
        if found is None:
            first = one_line(said.partition("\n")[0], 200)
            raise CheckpointError(
                f"{path} is damaged or not a .pt file ({type(error).__name__}: {first}). Use "
                "another copy of it."
            ) from error
        name = next(filter(None, found.groups()))
        raise CheckpointError(
            f"{path} has an object of {name}. It is refused, because unpickling objects can "
            "run any code. Load the file in the program that wrote it, and save it again with only "
            "tensors, dicts, lists, strings and numbers (dataclasses.asdict, array.tolist, float, "
            "str)."
        ) from error


def find_weights(path: Path, content: Mapping[str, Any], wanted: str | None = None) -> Weights:
    """Find the state dict of the network.

    Parameters
    ----------
    path : Path
        The file, for messages.
    content : mapping
        Its entries.
    wanted : str, optional
        Entry to use; by default the first of `WEIGHTS_KEYS` that is there.

    Returns
    -------
    Weights

    Raises
    ------
    CheckpointError
        There is no state dict, or none under ``wanted``.
    """
    found = [key for key in WEIGHTS_KEYS if _is_state_dict(content.get(key))]
    if wanted is not None and not _is_state_dict(content.get(wanted)):
        there = f"it has them under {listed(found)}" if found else "it has none elsewhere"
        raise CheckpointError(f"{path} has no state dict of tensors under {wanted!r}; {there}.")
    if not found and wanted is None and content and _is_state_dict(content):
        raise CheckpointError(
            f"{path} is a bare state dict, which does not state how it was trained. Save it as an "
            f"entry, torch.save({{'model': torch.load({path.name!r})}}, 'entry.pt'), and import "
            "that with --annulus, --crop or --no-crop, and --data-origin."
        )
    if not found and wanted is None:
        raise CheckpointError(
            f"{path} has no state dict of tensors under {listed(WEIGHTS_KEYS)}, so it is not an "
            "old checkpoint; save the weights (model.state_dict()) under 'model', with the "
            "sections 'train' and 'dataset' of their training."
        )
    key = found[0] if wanted is None else wanted
    return Weights(key, _unwrapped(content[key]), tuple(name for name in found if name != key))


def listed(names: Any, last_word: str = "or") -> str:
    """Return quoted names as a list in a sentence."""
    *most, last = (repr(name) for name in names)
    return f"{', '.join(most)} {last_word} {last}" if most else last


def _is_state_dict(state: object) -> bool:
    return isinstance(state, Mapping) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    )


def _unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names = dict(state)
    while True:
        inner = {name: value for name, value in names.items() if name != AVERAGED}
        prefix = next(
            (each for each in WRAPPERS if inner and all(n.startswith(each) for n in inner)), None
        )
        if prefix is None:
            return names
        names = {name.removeprefix(prefix): value for name, value in inner.items()}


def prefix_hint(names: list[str]) -> str:
    """Return a sentence on a prefix of most names, which does not fit a network; or nothing."""
    first = [name.partition(".")[0] + "." for name in names if "." in name]
    if not first:
        return ""
    prefix = max(set(first), key=first.count)
    others = [name for name in names if not name.startswith(prefix)]
    if prefix in WRAPPERS:
        return (
            f" {len(names) - len(others)} of its {len(names)} names start with {prefix!r}, which "
            f"is removed only if all do; save the file again without {', '.join(others[:3])}."
        )
    if not others:
        return f" All of its names start with {prefix!r}; save the file again without that prefix."
    return ""
