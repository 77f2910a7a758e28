"""The soak of the grid, for ``DHS_SOAK_SECONDS`` seconds (30 by default), and its own tests."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.dhs.selection.grid_runs import FILES
from tests.faults import soak_faults
from tests.faults.soak import DONE, REFUSED, Ended, Moment, Soak, SoakError
from tests.faults.soak_faults import FAULTS, FAULTS_OF_POOLS, draw

SECONDS = float(os.environ.get("DHS_SOAK_SECONDS", "30"))
SEED = int(os.environ.get("DHS_SOAK_SEED", "0"))


@pytest.mark.soak
def test_storms_end_in_the_bytes_of_an_undisturbed_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["-m", "tests.faults.soak", "--seconds", str(SECONDS), "--seed", str(SEED)]
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=SECONDS + 300
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    with capsys.disabled():
        print(f"\n{done.stdout.strip()}")
    assert " storms from seed" in done.stdout


def test_every_fault_is_drawn_by_some_seed() -> None:
    drawn = {fault for seed in range(200) for fault in draw(random.Random(seed))}
    assert drawn == {*FAULTS, *FAULTS_OF_POOLS}
    assert draw(random.Random(7)) == draw(random.Random(7))


class Told(Soak):
    """A soak whose runs end as given and write ``b"made"`` into every file."""

    def __init__(self, home: Path, *ended: Ended) -> None:
        self.out, self.ended, self.counts = home / "grid", list(ended), Counter()
        self._expected = dict.fromkeys(FILES, b"made")

    def run(self, moment: Moment | None = None, workers: int = 1) -> Ended:
        self.out.mkdir(exist_ok=True)
        for name in FILES:
            (self.out / name).write_bytes(b"made")
        return self.ended.pop(0) if self.ended else Ended(DONE, "")


def storm(soak: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a storm of one fault that only creates the folder."""
    monkeypatch.setattr(soak_faults, "draw", lambda dice: [soak_faults.stale_signature])
    try:
        soak.storm(5)
    finally:
        assert soak.counts["stale signature"] == 1


def test_damaged_files_are_deleted_as_the_message_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "shard"
    damaged.touch()
    said = f"{damaged} is damaged (why); delete it and run again."
    soak = Told(tmp_path, Ended(REFUSED, said))
    with pytest.raises(SoakError, match=r"\.writer\.json was left behind"):
        storm(soak, monkeypatch)
    assert not damaged.exists()
    assert soak.counts["damaged files that were named"] == 1


@pytest.mark.parametrize(
    ("ended", "problem"),
    [
        (Ended(REFUSED, "no reason"), "a run ended with 2: no reason"),
        (Ended(-9, ""), "a run ended with -9"),
    ],
)
def test_an_end_that_nobody_expects_fails_and_says_how_to_repeat_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: Ended, problem: str
) -> None:
    expected = (
        rf"seed 5 \(stale_signature\): {problem}.* -m tests\.faults\.soak --seed 5 --storms 1"
    )
    with pytest.raises(SoakError, match=expected):
        storm(Told(tmp_path, ended), monkeypatch)


def test_other_bytes_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soak = Told(tmp_path)
    soak._expected["grid.json"] = b"other"
    with pytest.raises(SoakError, match=r"grid\.json differ from those of the undisturbed run"):
        storm(soak, monkeypatch)
