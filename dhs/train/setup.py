"""The starting point of a training: model, precision, micro-batches, and what it says first."""

from __future__ import annotations

import torch

from dhs import checkpoint
from dhs.data import LensDataset
from dhs.model import LensFinder
from dhs.statistics.few import few_for_auc
from dhs.train.config import TrainConfig, TrainSection
from dhs.train.processes import Processes
from fastnorm import LEGACY_ANNULUS, Annulus

FEWEST_FOR_VALIDATION = 10
"""Smallest number of lenses, and of non-lenses, of a validation split without a warning."""


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


class FewForValidationWarning(UserWarning):
    """The validation split has too few lenses or non-lenses to choose the best epoch."""


def check_classes(data: LensDataset, validation: LensDataset) -> list[str]:
    """Refuse a split of one class, and return warnings about few objects for validation.

    Raises
    ------
    ValueError
        A split has cutouts of one class alone.
    """
    for part in (data, validation):
        lenses = int(part.labels.sum())
        if lenses in (0, len(part)):
            raise ValueError(
                f"the split {part.split!r} of {part.name} has {len(part)} cutouts of label "
                f"{int(lenses > 0)} alone; a training needs lenses and non-lenses in both splits. "
                "Check dataset.label_col, or make other splits."
            )
    lenses = int(validation.labels.sum())
    counts = {"lenses": lenses, "non-lenses": len(validation) - lenses}
    return [
        f"{validation.name} has only {count} {kind} for validation: the validation AUC, which "
        f"chooses the best epoch, is mostly chance ({few_for_auc(*counts.values())})."
        for kind, count in counts.items()
        if count < FEWEST_FOR_VALIDATION
    ]


def legacy_warning(config: TrainConfig, size: int) -> str | None:
    """Return a warning if the preprocessing has the legacy annulus, which is also the default.

    Parameters
    ----------
    config : TrainConfig
        Configuration of the training.
    size : int
        Side of the cutouts in pixels.
    """
    spec, corrected = config.dataset.spec(), Annulus.default(size, size)
    if spec.annulus != LEGACY_ANNULUS:
        return None
    radii = f"annulus_r_in={corrected.r_in:g}, dataset.annulus_r_out={corrected.r_out:g}"
    crop = f"a crop to {spec.crop_size}" if spec.crop else "no crop"
    return (
        f"this training has the legacy annulus ({spec.annulus_r_in}, {spec.annulus_r_out}), with "
        f"{crop}. It is the default of a configuration without radii. For the corrected one, set "
        f"dataset.crop=false, dataset.{radii}."
    )


def introduction(config: TrainConfig, model: LensFinder, size: int) -> list[str]:
    """Return the lines that a training starts with: its preprocessing, and its network.

    Parameters
    ----------
    config : TrainConfig
        Configuration of the training.
    model : LensFinder
        Lens finder to train.
    size : int
        Side of the cutouts in pixels.
    """
    options, spec = config.train, config.dataset.spec()
    start = "random weights"
    if options.pretrained:
        start = f"ImageNet weights{options.weights and f' in {options.weights}'}"
    elif options.init_weights:
        start = options.init_weights
    parts = [options.arch, *(f"{k} {v:g}" for k, v in options.architecture_keywords().items())]
    parts.append(f"{sum(value.numel() for value in model.backbone.parameters()):,} parameters")
    return [
        f"preprocessing: {spec} ({spec.annulus_status(size)})",
        f"network: {', '.join(parts)}, from {start}",
    ]


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
    with torch.device("cpu"):
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
        try:
            model.backbone.load_state_dict(start.backbone.state_dict())
        except RuntimeError as error:
            theirs, ours = (one.architecture["kwargs"] for one in (start, model))
            raise ValueError(
                f"init_weights={options.init_weights!r} is {options.arch} with {theirs}, but this "
                f"training has {ours}; write the same under train, such as base_ch."
            ) from error
    if options.channels_last:
        model.backbone.to(memory_format=torch.channels_last)
    return model
