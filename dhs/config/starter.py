"""``dhs init``: first configurations of a user, made from the installed ones, for his data."""

from __future__ import annotations

import json
import math
import re
import shlex
from pathlib import Path
from typing import NamedTuple

from dhs.config.installed import installed
from fastnorm.atomic import atomic_path

TRAIN, GRID, READ_ME = "train.yaml", "grid.yaml", "README.md"
OF_TRAINING, OF_GRID = "simulated_bottlenecked_resnet.yaml", "simulated_grid.yaml"
"""The installed configurations that are adapted."""

CHANGE = "  # CHANGE"
FEW_TO_TRAIN = 1000
"""Fewest cutouts for a training that is worth it: 1,431 reach an AUC of 0.66 (docs/tutorial.md)."""
HOSTS_PER_CELL = 100
"""Fewest hosts per cell for which an axis is divided: intervals are rough below 30."""

ASSUMED = {
    "psfsize_r": ("psf_fwhm", 1.3, "arcsec"),
    "psfdepth_r": ("depth_5sig", 23.6, "AB mag"),
}
"""Key of a grid, value and unit that stand for a column; the values are typical of DR10."""


class Spread(NamedTuple):
    """Smallest and largest seeing (arcsec) and depth (AB mag) in r of hosts; None if not known."""

    seeing: tuple[float, float] | None
    depth: tuple[float, float] | None


class Facts(NamedTuple):
    """Facts about the data of a user.

    ``path``: pack or table, absolute; empty if not known yet. ``is_pack``: whether it is a pack.
    ``data_origin``: to be written, empty if the data state it. ``annulus``: radii for the size of
    the cutouts, pixels. ``batch_size``: at most the number of cutouts for training. ``hosts``:
    number of non-lenses in the validation split; None if not known. ``psfdepth_unit``: to be
    written, empty if the table declares it. ``spread``: None without seeing and depth.
    ``training``, ``training_lenses``, ``validation``: numbers of cutouts for training, of lenses
    among them, and of cutouts for validation; None if not known. ``lacks``: columns of seeing and
    depth that the data do not have.
    """

    path: str = ""
    is_pack: bool = True
    data_origin: str = ""
    annulus: tuple[float, float] = (32.5, 45.0)
    batch_size: int = 64
    hosts: int | None = None
    psfdepth_unit: str = ""
    spread: Spread | None = None
    training: int | None = None
    training_lenses: int = 0
    validation: int = 0
    lacks: tuple[str, ...] = ()


def write_starter(folder: Path, facts: Facts, fpr_targets: list[float]) -> list[Path]:
    """Write ``train.yaml``, ``grid.yaml`` and ``README.md``; nothing is overwritten.

    Parameters
    ----------
    folder : Path
        Folder of the files; created if it does not exist.
    facts : Facts
        Facts about the data.
    fpr_targets : list of float
        False-positive rates for which there are enough non-lenses.

    Returns
    -------
    list of Path

    Raises
    ------
    FileExistsError
        A file exists. Then none is written.
    OSError
        A file cannot be written.
    """
    folder = folder.absolute()
    texts = {
        TRAIN: _training_text(folder, facts),
        GRID: _grid_text(folder, facts, fpr_targets),
        READ_ME: _read_me(folder, facts),
    }
    require_new(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_text(text, "utf-8")
    return [folder / name for name in texts]


def require_new(folder: Path) -> None:
    """Check that no file of `write_starter` exists in a folder.

    Raises
    ------
    FileExistsError
        One exists.
    """
    there = [name for name in (TRAIN, GRID, READ_ME) if (folder / name).exists()]
    if there:
        raise FileExistsError(
            f"{folder} already has {', '.join(there)}; nothing was written. Name another folder, "
            "or remove what you no longer need."
        )


def _training_text(folder: Path, facts: Facts) -> str:
    """Return the training configuration."""
    text = _body(OF_TRAINING)
    inner, outer = facts.annulus
    for key, value in {
        "annulus_r_in": f"{inner:g}",
        "annulus_r_out": f"{outer:g}",
        "epochs": f"10{CHANGE}: more are better; the published recipe has 160",
        "batch_size": f"{facts.batch_size}{CHANGE}: fewer if the memory is too small",
        "out_dir": _quoted(folder / "training"),
    }.items():
        text = _with(text, key, value)
    if not facts.is_pack:
        text = _with(text, "mode", "file_manifest")
    text = _with(text, "parquet_path", _data(facts), *(() if facts.is_pack else ("manifest_path",)))
    if facts.data_origin:
        text = _after(text, "label_col", f"  data_origin: {_quoted(facts.data_origin)}")
    return (
        f"# A first training on your data, after {OF_TRAINING}.\n# Lines to change say CHANGE.\n"
        f"# The published recipes are in paperIV_*_annulus_fix.yaml: dhs config list\n{text}"
    )


def _grid_text(folder: Path, facts: Facts, fpr_targets: list[float]) -> str:
    """Return the configuration of a grid."""
    text = _body(OF_GRID)
    text = _with(text, "checkpoint", _quoted(folder / "training" / "best.safetensors"))
    text = _with(text, "out_dir", _quoted(folder / "grid"))
    text = _with(text, "parquet_path", _data(facts), *(() if facts.is_pack else ("manifest_path",)))
    if not facts.is_pack:
        text = _after(text, "manifest_path", "  mode: file_manifest")
    # Non-lenses that the training did not use.
    text = _with(
        text,
        "split",
        f"val{CHANGE}: all, if the checkpoint was trained on other data, so that it has seen none "
        "of these",
    )
    if facts.data_origin:
        text = _after(text, "split", f"  data_origin: {_quoted(facts.data_origin)}")
    if facts.psfdepth_unit:
        text = _after(text, "split", f"  psfdepth_unit: {facts.psfdepth_unit}")
    spread = facts.spread or Spread(None, None)
    cells = 1 if (facts.hosts or 0) < 4 * HOSTS_PER_CELL else 2
    for key, ends, usual in (
        ("psf_fwhm", spread.seeing, "{start: 1.2, stop: 1.2, step: 1.2}"),
        ("depth_5sig", spread.depth, "{start: 24.0, stop: 24.0, step: 3.0}"),
    ):
        text = _with(text, key, usual + CHANGE if ends is None else _axis(*ends, cells, 0.01))
    if facts.lacks:
        text = _after(text, "split", _unknown(facts.lacks))
    text = _with(text, "injections_per_cell", f"600{CHANGE}: more make the intervals narrower")
    text = _with(text, "fpr_targets", json.dumps(fpr_targets))
    text = re.sub(r"(?m)^# A coarse grid of .*$", "# A step is the width of the cells.", text)
    return (
        f"# A first grid on your data, after {OF_GRID}.\n# Lines to change say CHANGE.\n"
        f"# The grid of the retraining plan is selection_grid.yaml: dhs config list\n{text}"
    )


def _read_me(folder: Path, facts: Facts) -> str:
    """Return the page of the next commands."""
    train, grid, best, scores = (
        shlex.quote(str(folder / name))
        for name in (TRAIN, GRID, "training/best.safetensors", "scores.parquet")
    )
    data, where = shlex.quote(facts.path or "YOUR_PACK"), shlex.quote(str(folder))
    todo = "" if facts.path else "Fill in the path of your pack first, in both .yaml files.\n\n"
    if few := few_to_train(facts, folder):
        todo += f"Your data have {few} Without that, the commands below are only a trial run.\n\n"
    return f"""# Next

{todo}Read `{TRAIN}` and `{GRID}`: lines that you may want to change say CHANGE. Then:

```sh
dhs train {train}
dhs score {best} {data} --out {scores}
dhs grid plan {grid} && dhs grid {grid}
```

The training writes `training`, with the checkpoint `best.safetensors`; the grid writes `grid`, with
the completeness in `selection_function.csv`. An interrupted command resumes if you run it again.
Then `dhs report {where} --out report.html` collects all results on one page.
"""


def few_to_train(facts: Facts, folder: Path) -> str:
    """Say that the data are too few to train on, and what to do; empty if they suffice.

    Parameters
    ----------
    facts : Facts
        Facts about the data.
    folder : Path
        Folder of the configurations, as the commands name it.
    """
    if facts.training is None or facts.training >= FEW_TO_TRAIN:
        return ""
    grid = shlex.quote(str(folder / GRID))
    best = "checkpoint=simulated/training/best.safetensors"
    return (
        f"{facts.training:,} cutouts for training, {facts.training_lenses:,} of them lenses, and "
        f"{facts.validation:,} for validation: too few to train on (1,431 simulated ones reach an "
        "AUC of 0.66). Train on a simulated survey: `dhs simulate --out survey --n 20000`, `dhs "
        "init simulated --data survey`, `dhs train simulated/train.yaml`. Then measure "
        f"completeness on your hosts: `dhs grid {grid} --set {best} --set hosts.split=all`."
    )


def _unknown(lacks: tuple[str, ...]) -> str:
    """Return the lines for what the data lack, which begin as comments."""
    values = "the value" if len(lacks) == 1 else "the values"
    lines = [
        f"  # Your data have no {' and no '.join(lacks)}. dhs depth fills in what the files state;",
        f"  # or remove the # below and give {values} for all hosts.",
        *(
            f"  # {ASSUMED[name][0]}: {ASSUMED[name][1]}{CHANGE}: {ASSUMED[name][2]}"
            for name in lacks
        ),
    ]
    return "\n".join(lines)


def _body(name: str) -> str:
    """Return an installed configuration without the comment that it starts with."""
    (text,) = (item.text for item in installed() if item.name == name)
    lines = text.splitlines(keepends=True)
    while lines[0].startswith("#"):
        lines.pop(0)
    return "".join(lines)


def _with(text: str, key: str, value: str, name: str = "") -> str:
    """Replace the value of a key that is in the text once, and optionally its name."""
    line = re.compile(rf"^( *){key}:.*$", re.MULTILINE)
    result, count = line.subn(lambda found: f"{found[1]}{name or key}: {value}", text)
    if count != 1:
        raise ValueError(f"the installed configuration has {count} lines {key}; expected one.")
    return result


def _after(text: str, key: str, added: str) -> str:
    line = re.compile(rf"^ *{key}:.*$", re.MULTILINE)
    return line.sub(lambda found: f"{found[0]}\n{added}", text, count=1)


def _data(facts: Facts) -> str:
    return _quoted(facts.path) if facts.path else f"YOUR_PACK{CHANGE}: the folder of dhs pack"


def _quoted(value: str | Path) -> str:
    return json.dumps(str(value), ensure_ascii=False)


def _axis(low: float, high: float, cells: int, finest: float) -> str:
    """Return an axis of equal cells that contain all values between two ends."""
    # The last cell ends before its upper edge.
    step = max(math.ceil((high - low) / cells / finest + 1e-6), 1) * finest
    start = round((low + high) / 2 - step * (cells - 1) / 2, 3)
    return f"{{start: {start:g}, stop: {start + step * (cells - 1):g}, step: {step:g}}}"
