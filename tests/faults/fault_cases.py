"""One small job for every command that writes files, and the inputs of these jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import typer
from matplotlib.figure import Figure
from typer.testing import CliRunner, Result

import dhs.cli
import fastnorm.cli
from dhs import checkpoint
from dhs.audit.methods import write_methods
from dhs.score import work as score_work
from dhs.simulate import write as simulate
from fastnorm.atomic import atomic_path
from tests.dhs.evaluate import evaluate_cases as evaluations
from tests.dhs.pack.pack_cases import SHARD_BYTES, write_cutouts
from tests.dhs.report.report_cases import AXES, EDGES
from tests.dhs.selection.grid_cases import write_grid
from tests.dhs.selection.grid_runs import grid, write_hosts, write_model
from tests.dhs.train.training_runs import configuration, write_pack

DHS, FASTNORM = dhs.cli.app, fastnorm.cli.app


class Job(NamedTuple):
    """A command that writes ``out``: a folder, or a file if the name has a suffix.

    ``arguments`` takes the folder of the inputs and the path of the output.
    """

    out: str
    arguments: Callable[[Path, Path], list[object]]
    app: typer.Typer = DHS

    @property
    def is_folder(self) -> bool:
        return "." not in self.out


def _small_grid(home: Path, out: Path) -> list[object]:
    return ["grid", home / "grid.json", "--set", f"out_dir={out}", "--workers", 1]


def _realism(home: Path, out: Path) -> list[object]:
    data = ["--real", home / "lenses", "--injected", home / "hosts", "--out", out]
    return ["realism", home / "model.safetensors", *data, "--sample", 30, "--permutations", 19]


JOBS = {
    "pack": Job(
        "pack",
        lambda home, out: [
            *("pack", home / "cutouts.parquet", "--out", out, "--data-origin", "made-up"),
            *("--shard-bytes", SHARD_BYTES, "--workers", 1),
        ],
    ),
    "simulate": Job(
        "survey", lambda home, out: ["simulate", "--out", out, "--n", 3, "--workers", 1]
    ),
    "train": Job("training", lambda home, out: ["train", home / "t.yaml", "--set", _train_to(out)]),
    "score": Job(
        "scores.parquet",
        lambda home, out: [
            *("score", home / "model.safetensors", home / "pack", "--out", out),
            *("--batch-size", 4),
        ],
    ),
    "grid": Job("grid", _small_grid),
    "compare": Job(
        "comparison",
        lambda home, out: ["grid", "compare", home / "a", home / "b", "--out", out],
    ),
    "evaluate": Job(
        "evaluation",
        lambda home, out: [
            *("evaluate", home / "scores.parquet", "--truth", home / "truth.parquet"),
            *("--out", out, "--bootstrap", 100),
        ],
    ),
    "realism": Job("realism", _realism),
    "report": Job("report.html", lambda home, out: ["report", home / "texts", "--out", out]),
    "methods": Job(
        "methods.md", lambda home, out: ["methods", home / "model.safetensors", "--out", out]
    ),
    "normalize": Job(
        "stack.npy", lambda home, out: ["normalize", home / "images.npy", "--out", out], FASTNORM
    ),
    "show": Job(
        "show.png", lambda home, out: ["show", home / "images.npy", "--out", out], FASTNORM
    ),
}
FOLDERS = [name for name, job in JOBS.items() if job.is_folder]


def _train_to(out: Path) -> str:
    return f"train.out_dir={out}"


def write_inputs(home: Path) -> Path:
    """Write the inputs of all jobs."""
    write_cutouts(home)
    write_pack(home / "pack", 40, "made-up")
    write_pack(home / "lenses", 64)
    write_hosts(home / "hosts")
    model = write_model(home / "model.safetensors")
    # safetensors creates files that only their owner can read.
    model.chmod(0o644)
    small = {"injections_per_cell": 4, "shard_size": 4, "psf_fwhm": _axis(1.2), "seed": 3}
    settings = grid(home / "hosts", model, home / "unused", **small)
    (home / "grid.json").write_text(settings.model_dump_json())
    configuration(home / "pack", home / "t", epochs=1, base_ch=2)
    for name in ("a", "b"):
        write_grid(home / name, axes=AXES, edges=EDGES, noise_seed=ord(name))
    evaluations.write_scores(home / "scores.parquet")
    evaluations.write_truth(home / "truth.parquet")
    (home / "texts").mkdir()
    write_methods(home / "texts" / "methods.md", checkpoint.read(model))
    images = np.random.default_rng(1).normal(0, 1, (3, 3, 101, 101)).astype(np.float32)
    np.save(home / "images.npy", images)
    return home


def _axis(value: float) -> dict[str, float]:
    return {"start": value, "stop": value, "step": 0.3}


def run(name: str, home: Path, out: Path) -> Result:
    """Run a job; raise any error that it did not turn into a message."""
    job = JOBS[name]
    result = CliRunner().invoke(job.app, [str(part) for part in job.arguments(home, out)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    """Make pictures and pieces small, and do not wait for a locked folder."""

    def draw(path: Path) -> None:
        with atomic_path(path) as temporary:
            Figure((1, 1)).savefig(temporary, format="png", dpi=150)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dhs.selection.figure.draw_grid", lambda out, **_: [])
        patch.setattr("dhs.figures.save", lambda figure, path, *options: draw(path))
        patch.setattr("dhs.selection.figure_compare.comparison_figure", lambda comparison: None)
        patch.setattr("dhs.simulate.figure.draw_survey", lambda *given: draw(given[-1]))
        patch.setattr("dhs.train.run.draw_learning_curve", _to(draw, "learning_curve.png"))
        patch.setattr("dhs.realism.run.draw_probe", lambda probe, metadata, path: draw(path))
        patch.setattr("fastnorm.figure.draw_comparison", lambda drawn, out, **_: draw(out))
        pictures = {"roc.png": lambda evaluation: Figure((1, 1))}
        patch.setattr("dhs.evaluate.figure.PICTURES", pictures)
        patch.setattr(simulate, "CUTOUTS_PER_SHARD", 1)
        patch.setattr(score_work, "BATCHES_PER_PART", 1)
        patch.setattr("dhs.jobs.lock.SECONDS_TO_WAIT_FOR_THE_FOLDER", 0)
        yield
    torch.set_num_threads(threads)


def _to(draw: Callable[[Path], None], name: str) -> Callable[..., Any]:
    return lambda out, *given: draw(out / name)
