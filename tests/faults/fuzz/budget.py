"""The time budget of the fuzz tests, their inputs, and their counts.

Hypothesis stops after a number of examples, not after a time. It therefore runs in short rounds
until the time of a test is spent. Every round has its own seed, so that all runs try the same
inputs; a faster machine only tries more of them.
"""

from __future__ import annotations

import os
import secrets
import time
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from hypothesis import HealthCheck, Phase, find, given, seed, settings
from hypothesis.database import DirectoryBasedExampleDatabase
from hypothesis.strategies import SearchStrategy

from tests import ROOT
from tests.faults.fuzz.watch import warming

SECONDS = float(os.environ.get("FUZZ_SECONDS", "60"))
"""Time for all fuzz tests together."""
SEED = int(os.environ.get("FUZZ_SEED", "1"))
"""Seed of the first round; ``FUZZ_SEED=-1`` draws one."""
if SEED < 0:
    SEED = secrets.randbelow(2**32)
ROUND = 50
FAILURES = ROOT / ".hypothesis" / "fuzz"
"""Folder of failed inputs, which the next run tries first."""

counts: Counter[tuple[str, bool]] = Counter()
"""Numbers of inputs, by reader and by whether they were accepted."""

Input = TypeVar("Input")


class Budget:
    """The time budget of one test.

    Parameters
    ----------
    name : str
        Name of the test.
    seconds : float
        Time to spend.
    """

    def __init__(self, name: str, seconds: float) -> None:
        self.name, self.seconds = name, seconds

    def spend(
        self, reader: str, inputs: SearchStrategy[Input], accepts: Callable[[Input], bool]
    ) -> None:
        """Test a reader with inputs until the time is spent.

        Parameters
        ----------
        reader : str
            Name in the counts.
        inputs : strategy
            Strategy that draws the inputs.
        accepts : function
            Reads one input, raises if a promise is broken, and returns whether it was accepted.
        """
        with warming():
            accepts(find(inputs, lambda _: True, settings=settings(database=None)))
        end = time.monotonic() + self.seconds
        number = SEED
        while number == SEED or time.monotonic() < end:

            @seed(number)
            @settings(
                max_examples=ROUND,
                deadline=None,
                derandomize=False,
                database=DirectoryBasedExampleDatabase(FAILURES / self.name),
                suppress_health_check=list(HealthCheck),
                phases=(Phase.reuse, Phase.generate, Phase.shrink),
                print_blob=True,
                report_multiple_bugs=False,
            )
            @given(inputs)
            def one_round(value: Input) -> None:
                counts[reader, accepts(value)] += 1

            try:
                one_round()
            except BaseException as error:
                error.add_note(f"to repeat: FUZZ_SEED={number}, with the test {self.name} only")
                raise
            number += 1


def summary() -> list[str]:
    """Return one line per reader for the end of a run."""
    readers = sorted({reader for reader, _ in counts})
    lines = [
        f"{reader:24} {counts[reader, True] + counts[reader, False]:9,} inputs, "
        f"{counts[reader, True]:9,} accepted, {counts[reader, False]:9,} rejected"
        for reader in readers
    ]
    if not lines:
        return []
    return [f"FUZZ_SEED={SEED} FUZZ_SECONDS={SECONDS:g}, {counts.total():,} inputs", *lines]
