"""Normalise simulated or real cutouts with every backend and check the results (``make demo``).

Run as ``python examples/normalise.py [--cutouts DIR] [--out DIR]``. The exit status is 0; 1 if some
files were rejected; or 2 if none can be used, or a backend differs from the definition.
"""

from __future__ import annotations

import sys
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

import fastnorm
from dhs.constants import BANDS, CUTOUT_SIZE
from dhs.preprocess import preprocess_stack
from fastnorm import Annulus, AnnulusWarning
from fastnorm.checksums import EXPECTED_CHECKSUMS, checksum, synthetic_cutout
from fastnorm.cli.cutouts import of_one_shape
from fastnorm.figure import draw_comparison
from fastnorm.io import Cutout, Rejected, find_cutouts, read_cutouts
from fastnorm.io.write import StackWriter
from fastnorm.terminal import SOME_REJECTED, fail, print_rejected, wide_console
from fastnorm.text import printable, visible

COPIES_TIMED = 64
ROUNDS = 5
SEED = 7


def simulated_cutouts() -> list[Cutout]:
    """Return four noisy galaxies: plain, with an arc, with a neighbour, with bad pixels."""
    rng = np.random.default_rng(SEED)
    rows, columns = np.mgrid[:CUTOUT_SIZE, :CUTOUT_SIZE] - float(CUTOUT_SIZE // 2)
    colours = np.array([0.35, 1.0, 1.6])[:, None, None]
    noise = np.array([0.004, 0.006, 0.014])[:, None, None]

    def galaxy(peak: float, size: float, axis_ratio: float, angle: float) -> NDArray[np.float64]:
        along = columns * np.cos(angle) + rows * np.sin(angle)
        across = rows * np.cos(angle) - columns * np.sin(angle)
        radius = np.sqrt(axis_ratio * along**2 + across**2 / axis_ratio)
        light: NDArray[np.float64] = peak * np.exp(-radius / size)
        return light

    def observed(name: str, light: NDArray[np.float64]) -> Cutout:
        pixels = light + noise * rng.standard_normal((len(BANDS), CUTOUT_SIZE, CUTOUT_SIZE))
        return Cutout(name, pixels.astype(np.float32), None, None, Path(name))

    plain = colours * galaxy(0.8, 8.0, 0.7, 0.4)
    radius, angle = np.hypot(rows, columns), np.arctan2(rows, columns)
    ring = np.exp(-((radius - 9.0) ** 2) / 4.0) * np.exp(-((angle - 1.0) ** 2) / 0.5)
    arc = np.array([0.14, 0.12, 0.10])[:, None, None] * ring
    neighbour = 0.5 * np.exp(-((rows - 30) ** 2 + (columns + 25) ** 2) / 8.0)
    bad = observed("bad-pixel-block", colours * galaxy(0.5, 6.0, 0.9, 0.0))
    bad.pixels[1, 60:80, 10:40] = np.nan
    return [
        observed("plain-galaxy", plain),
        observed("lensed-arc", colours * galaxy(0.6, 6.0, 0.8, 1.2) + arc),
        observed("neighbour", plain + colours * neighbour),
        bad,
    ]


def _read(folder: Path, listed: Path) -> tuple[list[Cutout], list[Rejected]]:
    """Read the cutouts of a folder that have the shape of the first, and name all other files."""
    rejected: list[Rejected] = []
    paths = find_cutouts([folder], rejected)
    everything = (cutout for path in paths for cutout in read_cutouts(path, rejected))
    cutouts = list(of_one_shape(everything, rejected))
    listed.unlink(missing_ok=True)
    if rejected:
        lines = [visible(f"{item.path}: {item.reason}") + "\n" for item in rejected]
        listed.write_text("".join(lines), "utf-8")
        print_rejected(rejected, listed)
    if not cutouts:
        fail(f"--cutouts {folder} has no cutout that can be used; name another folder.")
    return cutouts, rejected


def _seconds(stack: NDArray[np.float32], annulus: Annulus, backend: str) -> float:
    best = np.inf
    for _ in range(ROUNDS):
        start = time.perf_counter()
        fastnorm.normalize_outer_annulus(
            stack, annulus.r_in, annulus.r_out, clip=10.0, nan_to_zero=True, backend=backend
        )
        best = min(best, time.perf_counter() - start)
    return best


def _compare_backends(stack: NDArray[np.float32], annulus: Annulus, screen: Console) -> bool:
    """Check every available backend for equality and both checksums, and time it."""
    many = np.resize(stack, (COPIES_TIMED, *stack.shape[1:]))
    loop = _seconds(many, annulus, "reference")
    table = Table(title=f"{len(stack)} cutouts of {stack.shape[1:]}, {annulus}")
    checksums = [f"checksum {known}" for known in EXPECTED_CHECKSUMS]
    for heading in ("backend", "equals NumPy", *checksums, "x NumPy loop"):
        table.add_column(heading)
    passed = True
    expected = fastnorm.normalize_outer_annulus(
        stack, annulus.r_in, annulus.r_out, clip=10.0, nan_to_zero=True, backend="reference"
    )
    for backend in fastnorm.backends():
        if not backend.available or backend.device != "cpu":
            why = f"not available: {backend.reason}"
            if backend.available:
                why = "on a GPU: run fastnorm check"
            table.add_row(backend.name, why, *["" for _ in EXPECTED_CHECKSUMS], "")
            continue
        result = fastnorm.normalize_outer_annulus(
            stack, annulus.r_in, annulus.r_out, clip=10.0, nan_to_zero=True, backend=backend.name
        )
        checks = [bool(np.array_equal(result, expected))]
        for known, hexadecimal in EXPECTED_CHECKSUMS.items():
            out = fastnorm.normalize_outer_annulus(
                synthetic_cutout(),
                known.r_in,
                known.r_out,
                clip=10.0,
                nan_to_zero=True,
                backend=backend.name,
            )
            checks.append(checksum(out) == hexadecimal)
        speed = loop / _seconds(many, annulus, backend.name)
        passed &= all(checks)
        marks = [Text("yes", "green") if check else Text("NO", "red") for check in checks]
        table.add_row(backend.name, *marks, f"{speed:.1f}")
    screen.print(table)
    return passed


def main(
    out: Annotated[Path, typer.Option(help="Folder for the figure and the stack.")] = Path("demo"),
    cutouts: Annotated[Path | None, typer.Option(help="Folder of real cutouts.")] = None,
) -> None:
    """Normalise cutouts with every backend, compare and time the backends, and draw a figure."""
    screen = wide_console(sys.stdout)
    # The demo shows the legacy annulus on purpose, and the figure labels it.
    warnings.simplefilter("ignore", AnnulusWarning)
    out.mkdir(parents=True, exist_ok=True)
    rejected: list[Rejected] = []
    sample = simulated_cutouts()
    if cutouts is not None:
        sample, rejected = _read(cutouts, out / "rejected.txt")
    stack = np.stack([cutout.pixels for cutout in sample])
    annulus = Annulus.default(*stack.shape[-2:])
    passed = _compare_backends(stack, annulus, screen)

    normalize = partial(
        preprocess_stack,
        mode="raw_robust",
        crop=False,
        annulus_r_in=annulus.r_in,
        annulus_r_out=annulus.r_out,
    )
    normalized = np.stack([normalize(image) for image in stack])
    with StackWriter(out / "stack.npy", stack.shape[-2:]) as writer:
        writer.write(normalized)
    draw_comparison(sample, out / "annulus.png")
    kind = "simulated" if cutouts is None else f"real, from {cutouts}"
    typer.echo(printable(f"cutouts: {kind}"))
    typer.echo(printable(f"normalised stack: {(out / 'stack.npy').resolve()}"))
    typer.echo(printable(f"picture: {(out / 'annulus.png').resolve()}"))
    if not passed:
        fail("a backend differs from the definition; do not use it.")
    screen.print(Text("Every backend equals the definition, and both checksums match.", "green"))
    if rejected:
        raise typer.Exit(SOME_REJECTED)


if __name__ == "__main__":
    typer.run(main)
