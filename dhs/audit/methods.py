"""The paper's paragraph on the normalisation, written from a checkpoint's own preprocessing."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dhs.checkpoint.header import Checkpoint
from dhs.constants import CUTOUT_SIZE, STAMP_SIZE
from dhs.model import BOTTLENECKED_RESNET
from dhs.preprocess.annulus_light import DISC_SCALE, light_share
from dhs.statistics.intervals import binomial_interval
from fastnorm import LEGACY_ANNULUS, Annulus
from fastnorm.atomic import atomic_path

if TYPE_CHECKING:
    from dhs.selection.grid_result import GridResult
    from dhs.statistics.thresholds import Threshold

TEXT_SUFFIXES = (".md", ".tex")
METHODS_MARK = "dhs methods: "
"""In the first line of a file, before what the text was written from."""

NAMES = {
    BOTTLENECKED_RESNET: "bottlenecked ResNet",
    "efficientnet_v2_s": "EfficientNetV2-S",
    "efficientnet_v2_s_torchvision": "EfficientNetV2-S",
}
"""Architectures as papers write them."""

_LATEX = {" x ": r" \times ", "theta_E": r"\theta_\mathrm{E}", "<=": r"\leq"}
_SPECIAL = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}
_DOLLAR = "\ue000"
"""Stands for a dollar of others, while dollars mean mathematics; a code for private use."""
_TO = "\u2013"
_MATHS = re.compile(r"\$(.*?)\$")


def methods_text(
    checkpoint: Checkpoint, grid: GridResult | None = None, *, latex: bool = False
) -> str:
    """One paragraph: the normalisation, the network, and the selection function.

    Parameters
    ----------
    checkpoint : Checkpoint
    grid : GridResult, optional
        A selection function that this checkpoint scored.
    latex : bool
        For LaTeX instead of plain text.

    Raises
    ------
    dhs.preprocess.spec.SpecMismatchError
        The grid's preprocessing is not the checkpoint's.
    ValueError
        The grid was scored by another checkpoint.
    """
    sentences = [*_normalisation(checkpoint), *_history(checkpoint), _network(checkpoint)]
    if grid is not None:
        _require_same(checkpoint, grid)
        sentences.append(_selection(grid))
    return _rendered(" ".join(sentences), latex) + "\n"


def write_methods(path: Path, checkpoint: Checkpoint, grid: GridResult | None = None) -> None:
    """Write `methods_text` into a file, ``.tex`` or ``.md``, which says what it was written from.

    Raises
    ------
    ValueError, dhs.preprocess.spec.SpecMismatchError
        As of `methods_text`; or the suffix is another.
    OSError
        The file cannot be written.
    """
    if path.suffix not in TEXT_SUFFIXES:
        raise ValueError(f"path={str(path)!r} must end in {' or '.join(TEXT_SUFFIXES)}.")
    latex = path.suffix == ".tex"
    metadata = {
        "checkpoint_fingerprint": checkpoint.fingerprint,
        "spec_fingerprint": checkpoint.spec.fingerprint,
        "data_origin": checkpoint.data_origin,
        "injections_fingerprint": None if grid is None else grid.metadata["injections_fingerprint"],
    }
    # A comment of HTML ends with its first ">".
    said = METHODS_MARK + json.dumps(metadata, sort_keys=True).replace(">", "\\u003e")
    first = f"% {said}" if latex else f"<!-- {said} -->"
    text = methods_text(checkpoint, grid, latex=latex)
    with atomic_path(path) as temporary:
        temporary.write_text(f"{first}\n{text}", encoding="utf-8")


def read_methods(path: Path) -> tuple[dict[str, Any], str]:
    """What a file of `write_methods` was written from, and its text.

    Raises
    ------
    ValueError
        It is none.
    OSError
        It cannot be read.
    """
    first, _, text = path.read_text(encoding="utf-8").partition("\n")
    said = first.partition(METHODS_MARK)[2].removesuffix(" -->")
    try:
        metadata = json.loads(said)
    except ValueError as error:
        raise ValueError(
            f"{path} does not say what it was written from ({error}); write it anew with dhs "
            "methods --out."
        ) from error
    if not isinstance(metadata, dict):
        raise ValueError(f"{path} does not say what it was written from; write it anew.")
    return metadata, text


def _normalisation(checkpoint: Checkpoint) -> list[str]:
    spec, size = checkpoint.spec, checkpoint.size
    side = spec.side(size)
    half_width = side // 2
    annulus = spec.annulus
    inner, outer = (100 * radius / half_width for radius in (annulus.r_in, annulus.r_out))
    share = 100 * light_share(annulus, side)
    cut = f" cut to their central ${side} x {side}$ pixels and" if spec.crop else ""
    sentences = [
        f"Cutouts of ${size} x {size}$ pixels ({spec.pixel_scale:g} arcsec per pixel) in "
        f"{', '.join(f'${band}$' for band in spec.bands)}, in units of nanomaggies, are{cut} "
        "normalised band by band with "
        f"an outer annulus at $(r_in, r_out) = {_radii(annulus)}$ pixels "
        f"around the central pixel, {inner:.0f}{_TO}{outer:.0f}% of the half-width of {half_width} "
        f"pixels.",
        f"It holds {annulus.pixel_count(side, side)} pixels, and {share:.1f}% of the light of an "
        f"exponential disc with a scale length of {DISC_SCALE:g} pixels that falls on the image.",
        "From every pixel we subtract the median of the annulus, and divide by the median absolute "
        f"deviation (MAD) from it plus $epsilon = 10^{{{math.log10(spec.eps):.0f}}}$ nanomaggies; "
        "the MAD is not scaled to the standard deviation of a Gaussian (there is no factor "
        "1.4826).",
    ]
    if spec.mode == "residual_radial_profile":
        sentences.append(
            "The azimuthal median profile of the normalised band is subtracted, in rings of one "
            "pixel."
        )
    sentences.append(
        "Missing pixels are set to zero before the statistics are taken, masked pixels leave the "
        f"statistics, and the result is clipped to $[-{spec.clip_range:g}, {spec.clip_range:g}]$."
    )
    return sentences


def _history(checkpoint: Checkpoint) -> list[str]:
    """What earlier models did, or that this is one of them."""
    spec, size = checkpoint.spec, checkpoint.size
    if spec.is_inside_galaxy(size):
        side = spec.side(size)
        right = Annulus.default(side, side)
        return [
            "This annulus lies within the galaxy; models of it are replaced by such with "
            f"${_radii(right)}$ pixels, and results of the two must not be combined."
        ]
    if spec.crop or size != CUTOUT_SIZE or spec.annulus != Annulus.default(size, size):
        return []
    return [
        f"Earlier models used ${_radii(LEGACY_ANNULUS)}$ pixels, which was appropriate for "
        f"${STAMP_SIZE} x {STAMP_SIZE}$ centre-cropped stamps but placed the annulus within the "
        f"galaxy for ${size} x {size}$ stamps, where it holds "
        f"{100 * light_share(LEGACY_ANNULUS, size):.1f}% of the light of the same disc."
    ]


def _network(checkpoint: Checkpoint) -> str:
    name = NAMES.get(checkpoint.arch, checkpoint.arch)
    data = checkpoint.data
    count = f"{data['n_train']:,} cutouts" if "n_train" in data else "cutouts"
    text = (
        f"The normalisation is the first layer of the network ({_escaped(name)}), which was "
        f"trained on {count} ({_escaped(checkpoint.data_origin)})"
    )
    auc = checkpoint.validation_auc
    if auc is not None:
        text += f" and reaches an area under the ROC curve of {auc:.4f} on the validation set"
    return f"{text}."


def _selection(grid: GridResult) -> str:
    metadata = grid.metadata
    thetas = grid.centres["theta_e"]
    start = (
        f"The selection function was measured with {metadata['injections']:,} lensed sources injected "
        f"into cutouts ({_escaped(metadata['data_origin'])}), with Einstein radii of "
        f"$theta_E = {thetas[0]:g}$ to {thetas[-1]:g} arcsec and unlensed source magnitudes of "
        f"$r = {grid.edges[0]:g}$ to {grid.edges[-1]:g}, normalised by the same layer and scored "
        "by the same network"
    )
    parts = [_completeness(grid, threshold) for threshold in grid.thresholds]
    said = "; ".join(part for part in parts if part)
    if not said:
        return f"{start}."
    return f"{start}; averaged over the injected sample, the completeness is {said}."


def _completeness(grid: GridResult, threshold: Threshold) -> str:
    tried, found = (int(counts.sum()) for counts in grid.counts(threshold, ["theta_e"]))
    if not tried:
        return ""
    low, high = (100 * end for end in binomial_interval(found, tried, "jeffreys"))
    at = f"a score above {threshold.threshold:.6g}"
    if threshold.fpr_target is not None:
        at = (
            f"a false-positive rate of {100 * threshold.fpr_target:g}% (measured on "
            f"{threshold.negatives:,} non-lenses)"
        )
    return f"{100 * found / tried:.1f}% (95% interval {low:.1f}{_TO}{high:.1f}%) at {at}"


def _require_same(checkpoint: Checkpoint, grid: GridResult) -> None:
    name = str(grid.folder)
    checkpoint.spec.require_same(grid.spec, str(checkpoint.path), name)
    scored_by = grid.metadata["checkpoint"]["fingerprint"]
    if scored_by != checkpoint.fingerprint:
        raise ValueError(
            f"{name} was scored by the checkpoint {scored_by[:12]}, and {checkpoint.path} is "
            f"{checkpoint.fingerprint[:12]}; name the grid of this checkpoint, or run dhs grid."
        )


def _radii(annulus: Annulus) -> str:
    radii = (annulus.r_in, annulus.r_out)
    return str(tuple(map(int, radii)) if all(map(float.is_integer, radii)) else radii)


def _escaped(text: str) -> str:
    """Text of others, in which a dollar is no sign of mathematics."""
    return text.replace("$", _DOLLAR)


def _rendered(text: str, latex: bool) -> str:
    """Turn what stands between dollars into mathematics, or into plain text."""
    if not latex:
        plain = _MATHS.sub(lambda found: re.sub(r"[{}]", "", found[1]), text)
        return plain.replace("epsilon = ", "eps = ").replace(_TO, "-").replace(_DOLLAR, "$")
    pieces = _MATHS.split(text)
    return "".join(_maths(piece) if k % 2 else _prose(piece) for k, piece in enumerate(pieces))


def _prose(text: str) -> str:
    escaped = "".join(_SPECIAL.get(character, character) for character in text)
    return escaped.replace(_TO, "--").replace(_DOLLAR, r"\$")


def _maths(text: str) -> str:
    for plain, command in _LATEX.items():
        text = text.replace(plain, command)
    text = re.sub(r"\br_(in|out)\b", r"r_\\mathrm{\1}", text)
    return f"${text.replace('epsilon', chr(92) + 'epsilon')}$"
