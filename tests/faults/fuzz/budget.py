"""How long a reader is fuzzed, with which inputs, and what was counted.

Hypothesis stops after a number of examples, not after a time. So it is run in rounds of few
examples until the time of a test is spent, every round with a seed of its own: the inputs are the
same in every run, a fast machine only tries more of them.
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
"""For all tests together."""
SEED = int(os.environ.get("FUZZ_SEED", "1"))
"""Of the first round; ``FUZZ_SEED=-1`` draws one."""
if SEED < 0:
    SEED = secrets.randbelow(2**32)
ROUND = 50
FAILURES = ROOT / ".hypothesis" / "fuzz"
"""Inputs that failed, to be tried first in the next run."""

counts: Counter[tuple[str, bool]] = Counter()
"""Of inputs, by reader and by whether they were accepted."""

Input = TypeVar("Input")


class Budget:
    """The time of one test.

    Parameters
    ----------
    name : str
        Of the test.
    seconds : float
    """

    def __init__(self, name: str, seconds: float) -> None:
        self.name, self.seconds = name, seconds

    def spend(
        self, reader: str, inputs: SearchStrategy[Input], accepts: Callable[[Input], bool]
    ) -> None:
        """Give a reader inputs until the time is spent.

        Parameters
        ----------
        reader : str
            To be counted under.
        inputs : strategy
        accepts : function
            Reads one input and fails where a promise is broken. Was it read?
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
                error.add_note(f"again: FUZZ_SEED={number}, the test {self.name} alone")
                raise
            number += 1


def summary() -> list[str]:
    """A line per reader, for the end of a run."""
    readers = sorted({reader for reader, _ in counts})
    lines = [
        f"{reader:24} {counts[reader, True] + counts[reader, False]:9,} inputs, "
        f"{counts[reader, True]:9,} accepted, {counts[reader, False]:9,} rejected"
        for reader in readers
    ]
    if not lines:
        return []
    return [f"FUZZ_SEED={SEED} FUZZ_SECONDS={SECONDS:g}, {counts.total():,} inputs", *lines]
