"""The paper's paragraph on the normalisation, written from the preprocessing of a checkpoint."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dhs.audit.validation_auc import ValidationAuc, validation_auc
from dhs.checkpoint.header import Checkpoint
from dhs.constants import CUTOUT_SIZE, STAMP_SIZE
from dhs.model.networks import paper_name
from dhs.preprocess.annulus_light import DISC_SCALE, light_share
from dhs.statistics.clusters import METHOD
from dhs.statistics.threshold_scatter import FEW_FALSE_POSITIVES
from fastnorm import LEGACY_ANNULUS, Annulus
from fastnorm.atomic import atomic_path
from fastnorm.json_text import parse_json

if TYPE_CHECKING:
    from dhs.selection.grid_result import GridResult
    from dhs.selection.host_sums import Completeness
    from dhs.statistics.thresholds import Threshold

TEXT_SUFFIXES = (".md", ".tex")
METHODS_MARK = "dhs methods: "
"""Marker in the first line of a file, before the JSON that identifies checkpoint and grid."""

_LATEX = {" x ": r" \times ", "theta_E": r"\theta_\mathrm{E}", "<=": r"\leq"}
_SPECIAL = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}
_DOLLAR = "\ue000"
"""Placeholder (a private-use code) for a literal dollar sign; other dollars enclose mathematics."""
_TO = "\u2013"
_MATHS = re.compile(r"\$(.*?)\$")


def methods_text(
    checkpoint: Checkpoint, grid: GridResult | None = None, *, latex: bool = False
) -> str:
    """Return one paragraph on the normalisation, the network, and the selection function.

    Parameters
    ----------
    checkpoint : Checkpoint
        Checkpoint to describe.
    grid : GridResult, optional
        Selection function scored with this checkpoint.
    latex : bool
        Whether to return LaTeX instead of plain text.

    Returns
    -------
    str
        One line that ends with a line break.

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
    """Write `methods_text` to a file whose first line identifies checkpoint and grid.

    Parameters
    ----------
    path : Path
        File to write: ``.tex`` for LaTeX, ``.md`` for plain text.
    checkpoint : Checkpoint
        Checkpoint to describe.
    grid : GridResult, optional
        Selection function scored with this checkpoint.

    Raises
    ------
    ValueError, dhs.preprocess.spec.SpecMismatchError
        See `methods_text`; or the suffix is not ``.tex`` or ``.md``.
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
    # A ">" in the JSON could end the HTML comment.
    said = METHODS_MARK + json.dumps(metadata, sort_keys=True).replace(">", "\\u003e")
    first = f"% {said}" if latex else f"<!-- {said} -->"
    text = methods_text(checkpoint, grid, latex=latex)
    with atomic_path(path) as temporary:
        temporary.write_text(f"{first}\n{text}", encoding="utf-8")


def read_methods(path: Path) -> tuple[dict[str, Any], str]:
    """Read a file from `write_methods`.

    Returns
    -------
    metadata : dict
        Fingerprints of the checkpoint and the grid, and the origin of the data.
    text : str
        The paragraph.

    Raises
    ------
    ValueError
        The file was not written by `write_methods`.
    OSError
        The file cannot be read.
    """
    first, _, text = path.read_text(encoding="utf-8").partition("\n")
    said = first.partition(METHODS_MARK)[2].removesuffix(" -->")
    try:
        metadata = parse_json(said)
    except ValueError as error:
        raise ValueError(
            f"{path} does not record its checkpoint ({error}); write it again with dhs methods "
            "--out."
        ) from error
    if not isinstance(metadata, dict):
        raise ValueError(
            f"{path} does not record its checkpoint; write it again with dhs methods --out."
        )
    return metadata, text


def _normalisation(checkpoint: Checkpoint) -> list[str]:
    spec, size = checkpoint.spec, checkpoint.size
    side = spec.side(size)
    half_width = side // 2
    annulus = spec.annulus
    inner, outer = (100 * radius / half_width for radius in (annulus.r_in, annulus.r_out))
    share = 100 * light_share(annulus, side)
    cut = f" cropped to their central ${side} x {side}$ pixels and" if spec.crop else ""
    sentences = [
        f"Cutouts of ${size} x {size}$ pixels ({spec.pixel_scale:g} arcsec per pixel) in the "
        f"{', '.join(f'${band}$' for band in spec.bands)} bands, in units of nanomaggies, are{cut} "
        "normalised separately in each band with an outer annulus at "
        f"$(r_in, r_out) = {_radii(annulus)}$ pixels around the central pixel "
        f"({inner:.0f}{_TO}{outer:.0f}% of the half-width of {half_width} pixels).",
        f"The annulus contains {annulus.pixel_count(side, side)} pixels and, for an exponential "
        f"disc with a scale length of {DISC_SCALE:g} pixels, {share:.1f}% of the light on the "
        "image.",
        "We subtract the median of the annulus from every pixel and divide the difference by the "
        "sum of the median absolute deviation (MAD) from this median and "
        f"$epsilon = 10^{{{math.log10(spec.eps):.0f}}}$ nanomaggies; the MAD is not scaled to the "
        "standard deviation of a Gaussian (no factor of 1.4826 is applied).",
    ]
    if spec.mode == "residual_radial_profile":
        sentences.append(
            "The azimuthal median profile, in rings of one pixel, is then subtracted from each "
            "normalised band."
        )
    sentences.append(
        "Missing pixels are set to zero before the statistics are computed, masked pixels are "
        "excluded from the statistics, and the result is clipped to "
        f"$[-{spec.clip_range:g}, {spec.clip_range:g}]$."
    )
    return sentences


def _history(checkpoint: Checkpoint) -> list[str]:
    """Return a sentence on earlier models, or on this model if it has the legacy annulus."""
    spec, size = checkpoint.spec, checkpoint.size
    if spec.is_inside_galaxy(size):
        side = spec.side(size)
        right = Annulus.default(side, side)
        return [
            "This annulus lies within the galaxy; models that use it are replaced by models with "
            f"${_radii(right)}$ pixels, and results of the two must not be combined."
        ]
    if spec.crop or size != CUTOUT_SIZE or spec.annulus != Annulus.default(size, size):
        return []
    return [
        f"Earlier models used ${_radii(LEGACY_ANNULUS)}$ pixels, which was appropriate for "
        f"${STAMP_SIZE} x {STAMP_SIZE}$ centre-cropped stamps but placed the annulus within the "
        f"galaxy for ${size} x {size}$ stamps, where it contains "
        f"{100 * light_share(LEGACY_ANNULUS, size):.1f}% of the light of the same disc."
    ]


def _network(checkpoint: Checkpoint) -> str:
    name = paper_name(checkpoint.arch) or checkpoint.arch
    data = checkpoint.data
    count = f"{data['n_train']:,} cutouts" if "n_train" in data else "cutouts"
    text = (
        f"The normalisation is the first layer of the network ({_escaped(name)}), which was "
        f"trained on {count} ({_escaped(checkpoint.data_origin)})"
    )
    auc = validation_auc(checkpoint)
    if auc is not None:
        text += f" and reaches an area under the ROC curve of {_area(auc)} on the validation set"
    return f"{text}."


def _area(auc: ValidationAuc) -> str:
    if auc.lenses is None or auc.non_lenses is None:
        return f"{auc.value:.4f} (no interval: the numbers of lenses and non-lenses are unknown)"
    of = f"{auc.lenses:,} lenses and {auc.non_lenses:,} non-lenses"
    if auc.has_few:
        return f"{auc.value:.4f} ({of}, too few for an interval)"
    return f"{auc.value:.4f} (95% interval {auc.low:.4f}{_TO}{auc.high:.4f}, {of})"


def _selection(grid: GridResult) -> str:
    metadata = grid.metadata
    thetas = grid.centres["theta_e"]
    start = (
        f"The selection function was measured with {metadata['injections']:,} lensed sources "
        f"injected into cutouts ({_escaped(metadata['data_origin'])}), with Einstein radii of "
        f"$theta_E = {thetas[0]:g}$ to {thetas[-1]:g} arcsec and unlensed source magnitudes of "
        f"$r = {grid.edges[0]:g}$ to {grid.edges[-1]:g}. {_hosts(grid)}The injected cutouts were "
        "normalised by the same layer and scored by the same network"
    )
    parts = [_completeness(grid, threshold) for threshold in grid.thresholds]
    said = "; ".join(part for part in parts if part)
    if not said:
        return f"{start}."
    averaged = f"averaged over the injected sample, the completeness is {said}"
    return f"{start}; {averaged}. {_net_means(grid)}{_how(grid)}"


def _hosts(grid: GridResult) -> str:
    """Return a sentence on seeing and depth of the hosts, measured or assumed."""
    from dhs.selection.seeing import NAMES, host_ranges, span

    ranges, said = host_ranges(grid), []
    for axis, (name, unit, digits) in NAMES.items():
        if axis in grid.assumed:
            said.append(f"a {name} of {grid.assumed[axis]:g} {unit} (assumed, not measured)")
        elif axis in ranges:
            said.append(f"a {name} of {span(*ranges[axis], digits)} {unit}")
    return f"In $r$, the hosts have {' and '.join(said)}. " if said else ""


def _net_means(grid: GridResult) -> str:
    """Return sentences on net completeness, and where it is the number to quote."""
    from dhs.selection.net import is_floor_large

    found = [(threshold, grid.completeness(threshold)) for threshold in grid.thresholds]
    found = [(threshold, item) for threshold, item in found if item.tried]
    if all(np.isnan(item.alone) for _, item in found):
        return (
            "The hosts alone were not scored, so how many of them pass the threshold without an "
            "arc is unknown. "
        )
    text = (
        "Net completeness is the fraction found among injections into hosts that are not above "
        "the threshold without an arc. "
    )
    large = [
        f"{100 * float(item.alone):.2g}% of the injections at {_named(threshold)}"
        for threshold, item in found
        if is_floor_large(item)
    ]
    if large:
        text += (
            f"Other hosts hold {' and '.join(large)}; as this is more than a tenth of the "
            "completeness, the net value describes the arcs. "
        )
    return text


def _completeness(grid: GridResult, threshold: Threshold) -> str:
    found = grid.completeness(threshold)
    if not found.tried:
        return ""
    at = _named(threshold)
    if threshold.fpr_target is not None:
        at += f" (measured on {threshold.negatives:,} non-lenses{_bias(threshold)})"
    hosts = f"{int(found.hosts):,} hosts"
    if np.isnan(found.low):
        interval = f"{hosts}, too few for an interval"
    else:
        interval = f"95% interval {100 * found.low:.1f}{_TO}{100 * found.high:.1f}%, {hosts}"
        interval += ", which are few" if found.is_few else ""
    return f"{100 * found.share:.1f}% ({interval}) at {at}{_net(found)}"


def _named(threshold: Threshold) -> str:
    if threshold.fpr_target is None:
        return f"a score above {threshold.threshold:.6g}"
    return f"a false-positive rate of {100 * threshold.fpr_target:g}%"


def _net(found: Completeness) -> str:
    """Return the net completeness as a clause; empty where it is not known."""
    from dhs.selection.net import net_reason

    if net_reason(found):
        return ""
    if np.isnan(found.net_low):
        interval = "too few hosts for an interval"
    else:
        interval = f"95% interval {100 * found.net_low:.1f}{_TO}{100 * found.net_high:.1f}%"
    return f", or {100 * found.net:.1f}% net ({interval})"


def _bias(threshold: Threshold) -> str:
    """Return a clause on the bias of a rate that few false positives set."""
    count, expected = threshold.false_positives, threshold.expected_fpr
    if expected is None or count is None or count >= FEW_FALSE_POSITIVES:
        return ""
    return f", of which {count} set the threshold: its expected rate is {100 * expected:.3g}%"


def _how(grid: GridResult) -> str:
    """Return sentences on the method of the intervals."""
    from dhs.selection.intervals import COMPUTED_AGAIN, HOSTS_AND_NEGATIVES

    text = f"Intervals take hosts as the sampling unit: {METHOD}."
    if any(grid.completeness(t).interval == HOSTS_AND_NEGATIVES for t in grid.thresholds):
        text += (
            " Where a false-positive rate sets the threshold, they include its scatter: limits "
            "from order statistics (David & Nagaraja 2003) are joined in quadrature, less the "
            "correlation of hosts and non-lenses (Zou & Donner 2008)."
        )
    return f"{text} {grid.warning} {COMPUTED_AGAIN}" if grid.warning else text


def _require_same(checkpoint: Checkpoint, grid: GridResult) -> None:
    name = str(grid.folder)
    checkpoint.spec.require_same(grid.spec, str(checkpoint.path), name)
    scored_by = grid.metadata["checkpoint"]["fingerprint"]
    if scored_by != checkpoint.fingerprint:
        raise ValueError(
            f"{name} was scored by the checkpoint {scored_by[:12]}, not by {checkpoint.path} "
            f"({checkpoint.fingerprint[:12]}); name the grid of this checkpoint, or run dhs grid."
        )


def _radii(annulus: Annulus) -> str:
    radii = (annulus.r_in, annulus.r_out)
    return str(tuple(map(int, radii)) if all(map(float.is_integer, radii)) else radii)


def _escaped(text: str) -> str:
    """Replace literal dollar signs by a placeholder, so that they do not enclose mathematics."""
    return text.replace("$", _DOLLAR)


def _rendered(text: str, latex: bool) -> str:
    """Convert the text between dollar signs to LaTeX mathematics or to plain text."""
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
