"""The starting point of a training: model, precision and micro-batches."""

from __future__ import annotations

import torch

from dhs import checkpoint
from dhs.model import LensFinder
from dhs.train.config import TrainConfig, TrainSection
from dhs.train.processes import Processes


def micro_batches_per_step(options: TrainSection, group: Processes) -> int:
    """Return how many micro-batches each process accumulates per step of the optimiser.

    Raises
    ------
    ValueError
        ``effective_batch`` is not a multiple of ``batch_size`` times the number of processes.
    """
    together = options.batch_size * group.world
    effective = options.effective_batch or together
    if effective % together:
        raise ValueError(
            f"effective_batch={effective} must be a multiple of batch_size={options.batch_size} "
            f"times {group.world} processes; change one of them."
        )
    return effective // together


def precision(options: TrainSection, group: Processes) -> torch.dtype | None:
    """Return the autocast dtype of a GPU; None means float32, as on a CPU."""
    if not options.mixed_precision or group.device.type != "cuda":
        return None
    return torch.float16 if options.mixed_precision == "fp16" else torch.bfloat16


def initial_model(config: TrainConfig, size: int) -> LensFinder:
    """Build the lens finder as it is before its first step.

    The same seed gives the same weights.

    Parameters
    ----------
    config : TrainConfig
        Configuration of the training.
    size : int
        Side of the cutouts in pixels.

    Returns
    -------
    LensFinder
        On the CPU.

    Raises
    ------
    ValueError, OSError
        Same as in `dhs.model.LensFinder` and `dhs.checkpoint.load`.
    """
    options, spec = config.train, config.dataset.spec()
    torch.manual_seed(config.dataset.seed)
    model = LensFinder(
        spec,
        options.arch,
        size=size,
        pretrained=options.pretrained,
        weights=options.weights or None,
        channels_last=options.channels_last,
        **options.architecture_keywords(),
    )
    if options.init_weights:
        start, _ = checkpoint.load(
            options.init_weights,
            expect_spec=None if options.init_across_annuli else spec,
            expect_arch=options.arch,
        )
        model.backbone.load_state_dict(start.backbone.state_dict())
    if options.channels_last:
        model.backbone.to(memory_format=torch.channels_last)
    return model
