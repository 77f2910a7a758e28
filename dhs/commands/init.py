"""``dhs init``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dhs.commands.paths import require_paths
from dhs.config.options import AsJson
from fastnorm.terminal import check_folder, messages, say
from fastnorm.text import printable

if TYPE_CHECKING:
    from dhs.config.starter import Facts, Spread
    from dhs.selection.config import GridConfig

RATES = (5e-2, 1e-2, 1e-3)


def init(
    folder: Annotated[Path, typer.Argument(help="Write the files to this folder.")],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PACK",
            help="Read this pack, or .parquet or .csv table of cutouts, and fill in the paths.",
        ),
    ] = None,
    data_origin: Annotated[
        str | None,
        typer.Option(
            help="State the origin of the cutouts, for example legacysurvey-dr10.",
            show_default="the origin in the data",
        ),
    ] = None,
    psfdepth_unit: Annotated[
        str | None,
        typer.Option(
            help="State the unit of psfdepth_r, nanomaggy^-2 or mag.",
            show_default="the unit that the column declares",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a first training and grid configuration, and the next commands.

    The files are train.yaml, grid.yaml and README.md. Existing files are never overwritten.

    Exit status: 0 written; 2 nothing done.
    """
    check_folder(folder)
    require_paths(data)
    with messages(TypeError, ValueError, OSError, ImportError):
        from dhs.config.starter import Facts, few_to_train, require_new, write_starter

        require_new(folder)
        facts = Facts() if data is None else _facts(data, data_origin or "", psfdepth_unit or "")
        rates = _rates(facts.hosts)
        written = write_starter(folder, facts, rates)
    if as_json:
        report = facts._asdict() | {"written": [str(path) for path in written]}
        typer.echo(json.dumps(report | {"fpr_targets": rates}))
    else:
        for path in written:
            typer.echo(printable(str(path)))
    if data is None:
        say("note", "yellow", "without --data, the files lack the path of your pack.")
    elif facts.lacks:
        text = f"the data lack {' and '.join(facts.lacks)}, which the grid needs; see grid.yaml."
        say("note", "yellow", text)
    if few := few_to_train(facts, folder):
        say("note", "yellow", f"{data} has {few}")
    if facts.hosts is not None and not rates:
        text = (
            f"{facts.hosts} non-lenses in the validation split set no threshold at a "
            f"false-positive rate of {RATES[0]:g}; the grid has the fixed threshold only."
        )
        say("note", "yellow", text)


def _facts(data: Path, data_origin: str, unit: str) -> Facts:
    """Open the data as a training and a grid do, and find what the configurations depend on."""
    from dhs.config.starter import ASSUMED, Facts
    from dhs.data import DatasetConfig, LensDataset
    from dhs.manifest.table import manifest_path, read_manifest
    from fastnorm import Annulus
    from fastnorm.paths import local_path

    path = local_path(data).absolute()
    if path.is_dir() and not (path / "manifest.parquet").is_file():
        raise ValueError(f"--data {data} is a folder without a manifest.parquet; pack it first.")
    table, metadata = read_manifest(manifest_path(path))
    is_pack = "shard" in table
    place = "parquet_path" if is_pack else "manifest_path"
    origin = "" if metadata.get("data_origin") == data_origin else data_origin
    mode = "pack" if is_pack else "file_manifest"
    section = {"mode": mode, place: str(path), "data_origin": origin}
    train = LensDataset(DatasetConfig.model_validate(section), "train")
    found = LensDataset(DatasetConfig.model_validate(section), "val")
    annulus = Annulus.default(found.size, found.size)
    facts = Facts(
        str(path),
        is_pack,
        origin,
        (annulus.r_in, annulus.r_out),
        min(64, 2 ** (len(train).bit_length() - 1)),
        int((found.labels == 0).sum()),
        unit,
        training=len(train),
        training_lenses=int((train.labels == 1).sum()),
        validation=len(found),
        lacks=tuple(name for name in ASSUMED if name not in table),
    )
    if len(facts.lacks) == len(ASSUMED):
        return facts
    # The spread of what the data have does not depend on the value of what they lack.
    given: dict[str, str | float] = {ASSUMED[name][0]: ASSUMED[name][1] for name in facts.lacks}
    if "psfdepth_r" not in facts.lacks:
        given["psfdepth_unit"] = unit
    spread = _spread(_everything({**section, **given}))
    if "psfsize_r" in facts.lacks:
        spread = spread._replace(seeing=None)
    if "psfdepth_r" in facts.lacks:
        spread = spread._replace(depth=None)
    return facts._replace(spread=spread)


def _everything(section: dict[str, str | float]) -> GridConfig:
    """Return a grid of one cell that has any seeing and depth."""
    from dhs.selection.config import GridConfig

    axes = {"psf_fwhm": (10.0, 20.0), "depth_5sig": (50.0, 100.0)}
    wide = {
        name: {"start": centre, "stop": centre, "step": step}
        for name, (centre, step) in axes.items()
    }
    hosts = section | {"fewest_per_cell": 1}
    return GridConfig.model_validate({"checkpoint": "a", "out_dir": "b", "hosts": hosts} | wide)


def _spread(config: GridConfig) -> Spread:
    from dhs.config.starter import Spread
    from dhs.selection.hosts import Hosts

    hosts = Hosts(config)
    used = hosts.places >= 0
    seeing, depth = hosts.fwhm[used, 1], hosts.depth[used]
    return Spread(
        (float(seeing.min()), float(seeing.max())), (float(depth.min()), float(depth.max()))
    )


def _rates(hosts: int | None) -> list[float]:
    """Return the false-positive rates for which the non-lenses suffice."""
    from dhs.statistics.thresholds import allowed_false_positives

    if hosts is None:
        return [RATES[1]]
    rates = []
    for rate in RATES:
        try:
            allowed_false_positives(hosts, rate)
        except ValueError:
            continue
        rates.append(rate)
    return rates


if __name__ == "__main__":
    raise SystemExit("This module runs as dhs init, or python -m dhs init.")
