"""Save and load the state of a training, so that a killed run resumes with identical output.

The state is one .safetensors file. It has the weights and the moments of the optimiser. Its header
has the place in the epoch, the history, and the settings and data of the training. Random
generators need no state: their seeds follow from (seed, epoch, micro-batch).
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

from dhs.config.errors import differences
from fastnorm.atomic import atomic_path
from fastnorm.json_text import parse_json
from fastnorm.paths import require_file

STATE_FILE = "state.safetensors"
FORMAT = 1


@dataclass
class Progress:
    """The progress of a training.

    Attributes
    ----------
    epoch : int
        Epoch of the next step of the optimiser, from 0.
    step : int
        Number of the next step within its epoch, from 0.
    loss_sum : float
        Sum of the losses of the epoch's steps so far.
    history : list of dict
        Metrics of every finished epoch.
    best_epoch : int
        Epoch with the best validation AUC, or -1. Without an AUC, the validation loss decides.
    scaler : dict
        State of the loss scaler for float16.
    sampler : dict
        State of the `BatchSampler`.
    threads : int
        Number of torch's threads on the CPU.
    is_complete : bool
        True if no epoch is left.
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
    """Write the state of a training atomically.

    Parameters
    ----------
    path : Path
        File to write; an existing one is replaced.
    backbone : nn.Module
        Network whose weights are saved.
    optimizer : Optimizer
        Optimiser whose moments and settings are saved.
    progress : Progress
        Progress of the training.
    what : dict
        Settings and data that identify the training, as plain values for JSON. `load_state`
        refuses a state with different ones.

    Raises
    ------
    OSError
        The file cannot be written; the previous one is kept.
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
        # safetensors' own writer makes files private, and its errors do not name the file.
        temporary.write_bytes(save(copies, {"dhs": json.dumps(header)}))


def load_state(
    path: Path, what: dict[str, Any]
) -> tuple[Progress, dict[str, Tensor], dict[str, Any]]:
    """Read the state of a training.

    Returns
    -------
    progress : Progress
        Progress of the training.
    weights : dict of Tensor
        State dict of the backbone.
    optimizer : dict
        State dict of the optimiser.

    Raises
    ------
    ValueError
        The file is damaged, or it belongs to a different training; the message lists the
        differences.
    """
    require_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            header = parse_json((file.metadata() or {})["dhs"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        there = header["what"]
        progress = Progress(**header["progress"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged or is not a training state ({type(error).__name__}: {error}); "
            "delete the folder and train again."
        ) from error
    differ = differences(there, json.loads(json.dumps(what)))
    if differ:
        raise ValueError(
            f"{path} belongs to a different training: {'; '.join(differ)}. Use the saved settings "
            "or a different train.out_dir."
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


def micro_batch_seed(seed: int, epoch: int, number: int) -> int:
    """Return the seed of torch's generators for one micro-batch.

    It does not depend on the number of processes.

    Parameters
    ----------
    seed : int
        Random seed of the training.
    epoch : int
        Epoch, counted from 0.
    number : int
        Number of the micro-batch within the epoch, counted over all processes.

    Returns
    -------
    int
        0 to ``2**63 - 1``.
    """
    text = f"{seed} {epoch} {number}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
