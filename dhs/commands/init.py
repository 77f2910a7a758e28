"""``dhs init``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    with messages(TypeError, ValueError, OSError, ImportError):
        from dhs.config.starter import Facts, require_new, write_starter

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
    elif facts.spread is None:
        text = "the data lack psfsize_r or psfdepth_r, which the grid needs; see grid.yaml."
        say("note", "yellow", text)
    if facts.hosts is not None and not rates:
        text = (
            f"{facts.hosts} non-lenses in the validation split set no threshold at a "
            f"false-positive rate of {RATES[0]:g}; the grid has the fixed threshold only."
        )
        say("note", "yellow", text)


def _facts(data: Path, data_origin: str, unit: str) -> Facts:
    """Open the data as a training and a grid do, and find what the configurations depend on."""
    from dhs.config.starter import Facts
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
    cutouts = len(LensDataset(DatasetConfig.model_validate(section), "train"))
    found = LensDataset(DatasetConfig.model_validate(section), "val")
    annulus = Annulus.default(found.size, found.size)
    facts = Facts(
        str(path),
        is_pack,
        origin,
        (annulus.r_in, annulus.r_out),
        min(64, 2 ** (cutouts.bit_length() - 1)),
        int((found.labels == 0).sum()),
        unit,
    )
    if not {"psfsize_r", "psfdepth_r"} <= set(table):
        return facts
    return facts._replace(spread=_spread(_everything(section | {"psfdepth_unit": unit})))


def _everything(section: dict[str, str]) -> GridConfig:
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
