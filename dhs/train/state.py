"""The state of a training on disk: what a killed run goes on from, to the same bytes.

One .safetensors file: the weights, the moments of the optimiser, and in the header the place in
the epoch, the history, and what the training is. Random numbers have no state: they are drawn from
(seed, epoch, micro-batch).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from fastnorm.atomic import atomic_path

STATE_FILE = "state.safetensors"
FORMAT = 1


@dataclass
class Progress:
    """How far a training is.

    Attributes
    ----------
    epoch, step : int
        Of the optimiser's next step; steps are counted within the epoch.
    loss_sum : float
        Of the epoch's steps so far.
    history : list of dict
        Metrics of every finished epoch.
    best_epoch : int
        Of the best validation AUC, or -1.
    scaler : dict
        Of the loss scale for float16.
    sampler : dict
        Of the order of the cutouts.
    threads : int
        Of torch on the CPU.
    is_complete : bool
        There is nothing left to do.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = -1
    scaler: dict[str, Any] = field(default_factory=dict)
    sampler: dict[str, Any] = field(default_factory=dict)
    threads: int = 0
    is_complete: bool = False


def save_state(
    path: Path, backbone: nn.Module, optimizer: Optimizer, progress: Progress, what: dict[str, Any]
) -> None:
    """Write the state, whole or not at all.

    Parameters
    ----------
    path : Path
    backbone : nn.Module
    optimizer : Optimizer
    progress : Progress
    what : dict
        What the training is, for JSON; `load_state` refuses another one.

    Raises
    ------
    OSError
        The file cannot be written; the one before it is kept.
    """
    tensors = {f"model.{name}": value for name, value in backbone.state_dict().items()}
    numbers: dict[str, dict[str, Any]] = {}
    for index, moments in optimizer.state_dict()["state"].items():
        for name, value in moments.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                numbers.setdefault(str(index), {})[name] = value
    header = {
        "format": FORMAT,
        "what": what,
        "progress": asdict(progress),
        "groups": optimizer.state_dict()["param_groups"],
        "numbers": numbers,
    }
    copies = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with atomic_path(path) as temporary:
        # safetensors itself writes files that nobody else may read, and names no file in errors.
        temporary.write_bytes(save(copies, {"dhs": json.dumps(header)}))


def load_state(
    path: Path, what: dict[str, Any]
) -> tuple[Progress, dict[str, Tensor], dict[str, Any]]:
    """Read the state, unless it is of another training.

    Returns
    -------
    progress : Progress
    weights : dict of Tensor
        State dict of the backbone.
    optimizer : dict
        State dict of the optimiser.

    Raises
    ------
    ValueError
        The file is damaged, or of another training; what differs is named.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["dhs"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        there = header["what"]
        progress = Progress(**header["progress"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged, or no state of a training ({type(error).__name__}: {error}); "
            "delete the folder and train afresh."
        ) from error
    differ = _differences(there, json.loads(json.dumps(what)))
    if differ:
        raise ValueError(
            f"{path} is of another training: {'; '.join(differ)}. Use those settings, or another "
            "train.out_dir."
        )
    moments: dict[int, dict[str, Any]] = {
        int(index): dict(values) for index, values in header["numbers"].items()
    }
    weights = {}
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "model":
            weights[rest] = value
        else:
            index, _, moment = rest.partition(".")
            moments.setdefault(int(index), {})[moment] = value
    return progress, weights, {"state": moments, "param_groups": header["groups"]}


def _differences(there: Any, here: Any, name: str = "") -> list[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        found = []
        for key in sorted(there.keys() | here.keys()):
            inner = f"{name}.{key}" if name else key
            found += _differences(there.get(key), here.get(key), inner)
        return found
    return [] if there == here else [f"{name} is {there} there, {here} here"]


def micro_batch_seed(seed: int, epoch: int, number: int) -> int:
    """Seed of torch's generators for one micro-batch, the same for any number of processes."""
    text = f"{seed} {epoch} {number}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
