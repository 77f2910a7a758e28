"""How the network of a lens finder is computed: the layout of its images, and the engine.

The last bits of a logit depend on both, so every table of scores and every grid records them.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch

from dhs.model.finder import LensFinder
from fastnorm.dispatch.threads import notice_if_slow
from fastnorm.text import one_line

ENGINES = ("auto", "eager", "compile")
WORTH_COMPILING = 100_000
"""Cutouts from which on "auto" compiles on a CPU: compiling takes up to two minutes, and saves
0.8 ms a cutout on both networks (``python -m benchmarks.forward``)."""
MOST_DIFFERENCE = 1e-5
"""Largest difference of a compiled logit, in units of the largest logit."""
PROBES = 2
"""Batches that compiled and other logits are compared on."""


class Inference(NamedTuple):
    """How networks are computed.

    ``engine``: "eager", operator by operator, or "compile", by `torch.compile` with constant
    weights. ``layout``: "channels_last" or "contiguous". ``reason``: why "auto" chose the engine.
    ``has_failed``: whether it wanted to compile, and could not.
    """

    engine: str
    layout: str = "channels_last"
    reason: str = ""
    has_failed: bool = False

    def __str__(self) -> str:
        return f"{self.engine}, {self.layout}"

    def notes(self) -> list[str]:
        """Return a line if compiling failed."""
        said = f"the network is not compiled, and computed eagerly: {self.reason}"
        return [said] if self.has_failed else []

    def to_dict(self) -> dict[str, str]:
        """Return what the logits depend on, for JSON."""
        return {"engine": self.engine, "layout": self.layout}


BEFORE_LAYOUTS = Inference("eager", "contiguous")
"""How the networks of records without an inference were computed."""
KNOWN = (Inference("eager"), Inference("compile"), BEFORE_LAYOUTS)


def inference_of(engine: str, earlier: Mapping[str, Any] | None) -> Inference | None:
    """Return how a run computes its networks, as far as it is known before it tries.

    Parameters
    ----------
    engine : {"auto", "eager", "compile"}
    earlier : mapping, optional
        Metadata of an earlier run, which "auto" resumes.

    Returns
    -------
    Inference or None
        None if "auto" has nothing to resume.

    Raises
    ------
    ValueError
        The engine is not known, or the earlier run does not say how it was computed.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine={engine!r} is not known; use one of {', '.join(ENGINES)}.")
    if engine != "auto":
        return Inference(engine)
    if earlier is None:
        return None
    recorded = earlier.get("inference")
    if recorded is None:
        return BEFORE_LAYOUTS
    for known in KNOWN:
        if recorded == known.to_dict():
            return known
    raise ValueError(
        f"the earlier run has inference={recorded!r}, which is not known here; give another out."
    )


class CompileError(ValueError):
    """A network cannot be compiled, or its compiled logits are not those of the network."""


class Job(NamedTuple):
    """A computation: numbers of cutouts in all and in a batch, and their side in pixels."""

    cutouts: int
    batch_size: int
    size: int


def set_up(
    finders: Sequence[LensFinder], engine: str | Inference, job: Job, device: torch.device
) -> Inference:
    """Choose the layout and the engine of lens finders, and prepare them.

    "auto" compiles on a CPU for `WORTH_COMPILING` cutouts or more, if that works here and the
    logits are the same within `MOST_DIFFERENCE` of the largest.

    Parameters
    ----------
    finders : sequence of LensFinder
        Lens finders on ``device``, in evaluation mode, which are changed.
    engine : {"auto", "eager", "compile"} or Inference
    job : Job
        Compiled networks take batches of its size only.
    device : torch.device
        Device of the lens finders.

    Returns
    -------
    Inference

    Raises
    ------
    ValueError
        The engine is not known.
    CompileError
        The engine is "compile", and a network cannot be compiled.
    """
    known = engine if isinstance(engine, Inference) else inference_of(engine, None)
    for finder in finders:
        use_layout(finder, "channels_last" if known is None else known.layout)
    if known is not None and known.engine == "eager":
        return known
    if known is None and device.type != "cpu":
        return Inference("eager", reason="compiled networks were not measured on a GPU")
    if known is None and job.cutouts < WORTH_COMPILING:
        few = f"{job.cutouts:,} cutouts are fewer than {WORTH_COMPILING:,}"
        return Inference("eager", reason=f"{few}, for which compiling is worth its time")
    try:
        for finder in finders:
            compile_network(finder, job, device)
    except CompileError as error:
        if known is not None:
            raise
        for finder in finders:
            finder.backbone._compiled_call_impl = None
        return Inference("eager", reason=str(error), has_failed=True)
    return Inference("compile") if known is None else known


def use_layout(finder: LensFinder, layout: str) -> None:
    """Give the network its images and its weights in a layout, "channels_last" or "contiguous"."""
    is_last = layout == "channels_last"
    finder.backbone.to(memory_format=torch.channels_last if is_last else torch.contiguous_format)
    finder.preprocess.use_channels_last(is_last)


def compile_network(finder: LensFinder, job: Job, device: torch.device) -> None:
    """Compile the network of a lens finder, with its weights as constants.

    Parameters
    ----------
    finder : LensFinder
        Lens finder on ``device``, in evaluation mode.
    job : Job
    device : torch.device

    Raises
    ------
    CompileError
        It cannot be compiled, for instance without a C++ compiler; or its logits differ.
    """
    _keep_what_is_compiled()
    network, arch = finder.backbone, finder.architecture["arch"]
    side = finder.spec.side(job.size)
    random = torch.Generator().manual_seed(1)
    shape = (PROBES, job.batch_size, cast(int, finder.architecture["in_ch"]), side, side)
    probes = torch.randn(shape, generator=random, device="cpu").clamp(-10, 10).to(device)
    seen = [probe.contiguous(memory_format=torch.channels_last) for probe in probes]
    with torch.inference_mode():
        before = torch.cat([network(probe) for probe in seen])
        try:
            with warnings.catch_warnings(), notice_if_slow("the network", "up to two minutes"):
                warnings.simplefilter("ignore")
                network.compile(fullgraph=True, dynamic=False, options={"freezing": True})
                after = torch.cat([network(probe) for probe in seen])
        # Each compiler raises its own.
        except Exception as error:
            network._compiled_call_impl = None
            said = one_line(f"{type(error).__name__}: {error}")
            raise CompileError(
                f"{arch} cannot be compiled here ({said[:300]}); install a C++ compiler and the "
                "headers of Python, or use engine='eager'."
            ) from error
    difference = float((after - before).abs().max() / before.abs().max().clamp(min=1e-30))
    if not difference <= MOST_DIFFERENCE:
        network._compiled_call_impl = None
        raise CompileError(
            f"compiled logits of {arch} differ by {difference:.1e} of the largest, more than "
            f"{MOST_DIFFERENCE:g}; use engine='eager'."
        )


def _keep_what_is_compiled() -> None:
    """Let all processes of this user share what is compiled, in a folder of that user alone."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if os.path.isabs(home):
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.join(home, "dhs", "networks"))
