"""``dhs methods``: the paper's paragraph, from a checkpoint and a grid."""

from __future__ import annotations

import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dhs import checkpoint
from dhs.audit.methods import methods_text, read_methods, write_methods
from dhs.checkpoint import Checkpoint
from dhs.cli import app
from dhs.preprocess.annulus_light import light_share
from dhs.preprocess.spec import PreprocessSpec, SpecMismatchError
from dhs.selection.grid_result import GridResult
from fastnorm import LEGACY_ANNULUS, Annulus
from tests.command_line import invoke, message
from tests.dhs.audit.audit_cases import DR10, finished, grid_of, lines_of, of
from tests.dhs.audit.audit_cases import grid_folder as grid_folder
from tests.dhs.audit.audit_cases import template as template
from tests.dhs.model.model_cases import save
from tests.dhs.selection.grid_cases import CORRECTED, LEGACY, Axes, without_hosts, write_grid


@pytest.fixture
def made(template: Checkpoint) -> Checkpoint:
    return of(template, "efficientnet_v2_s", CORRECTED, Path("best.safetensors"))


@pytest.mark.parametrize("annulus", [LEGACY_ANNULUS, Annulus(32.5, 45)])
def test_share_of_light_is_that_of_the_integral(annulus: Annulus) -> None:
    inner, outer = (
        math.exp(-radius / 8) * (1 + radius / 8) for radius in (annulus.r_in, annulus.r_out)
    )
    assert light_share(annulus, 1001) == pytest.approx(inner - outer, abs=2e-3)


def test_shares_of_the_definition() -> None:
    assert f"{light_share(LEGACY_ANNULUS, 101):.3f}" == "0.199"
    assert f"{light_share(Annulus(32.5, 45), 101):.3f}" == "0.064"
    with pytest.raises(ValueError, match="scale=0"):
        light_share(LEGACY_ANNULUS, 101, 0)


def test_the_corrected_annulus(made: Checkpoint) -> None:
    text = methods_text(made)
    for said in (
        "(r_in, r_out) = (32.5, 45.0) pixels",
        "65-90% of the half-width of 50 pixels",
        "The annulus contains 3036 pixels and, for an exponential disc with a scale length of 8 "
        "pixels, 6.4% of the light on the image",
        "no factor of 1.4826 is applied",
        "eps = 10^-8 nanomaggies",
        "clipped to [-10, 10]",
        "Earlier models used (20, 32) pixels, which was appropriate for 64 x 64 centre-cropped "
        "stamps but placed the annulus within the galaxy for 101 x 101 stamps",
        f"(EfficientNetV2-S), which was trained on 14,002 cutouts ({DR10})",
        "under the ROC curve of 0.9960",
    ):
        assert said in text
    assert "$" not in text
    assert "selection function" not in text
    assert text.count("\n") == 1


def test_what_the_text_says_follows_the_preprocessing(made: Checkpoint) -> None:
    spec = PreprocessSpec(
        "residual_radial_profile", annulus_r_in=30, annulus_r_out=47.5, clip_range=5
    )
    text = methods_text(replace(made, spec=spec))
    assert "(30.0, 47.5) pixels" in text
    assert "60-95% of the half-width" in text
    assert "[-5, 5]" in text
    assert "azimuthal median profile" in text
    assert "Earlier models" not in text


def test_the_old_annulus_is_not_recommended(made: Checkpoint) -> None:
    text = methods_text(replace(made, spec=LEGACY))
    assert "(20, 32) pixels around the central pixel (40-64%" in text
    assert "1960 pixels and" in text
    assert "19.9% of the light" in text
    assert "models that use it are replaced by models with (32.5, 45.0) pixels" in text
    assert "Earlier models" not in text


def test_a_crop_has_the_half_width_of_the_crop(made: Checkpoint) -> None:
    text = methods_text(replace(made, spec=PreprocessSpec(crop=True)))
    assert "are cropped to their central 64 x 64 pixels and normalised" in text
    assert "62-100% of the half-width of 32 pixels" in text
    assert "within the galaxy" not in text


def test_intervals_of_the_old_kind_are_named(
    made: Checkpoint, grid_folder: Path, tmp_path: Path
) -> None:
    old = without_hosts(Path(shutil.copytree(grid_folder, tmp_path / "old")))
    text = methods_text(made, grid_of(old, made))
    assert "are of the old kind" in text
    assert "computed again from the injections, by host" in text


def test_the_audit_names_intervals_of_the_old_kind(
    template: Checkpoint, grid_folder: Path, tmp_path: Path
) -> None:
    for folder, is_old in ((grid_folder, False), (tmp_path / "old", True)):
        if is_old:
            without_hosts(Path(shutil.copytree(grid_folder, folder)))
        found = finished(template, folder, tmp_path)
        assert ("are of the old kind" in str(lines_of(found)["selection_grid"])) == is_old


def test_too_few_hosts_have_no_interval(made: Checkpoint, tmp_path: Path) -> None:
    few = write_grid(tmp_path / "few", per_cell=40, hosts=9)
    assert "(9 hosts, too few for an interval) at" in methods_text(made, grid_of(few, made))


def test_completeness_is_that_of_the_injections(made: Checkpoint, grid_folder: Path) -> None:
    grid = grid_of(grid_folder, made)
    text = methods_text(made, grid)
    logits = np.concatenate([batch["logit"] for batch in grid.batches("logit")])
    logits = logits[np.isfinite(logits)]
    for threshold in grid.thresholds:
        found = int((logits > threshold.logit).sum())
        low, high = (getattr(grid.completeness(threshold), end) for end in ("low", "high"))
        said = (
            f"{100 * found / len(logits):.1f}% (95% interval {100 * low:.1f}-{100 * high:.1f}%, "
            "50 hosts)"
        )
        assert f"{said} at a false-positive rate of {100 * threshold.fpr_target:g}%" in text  # type: ignore[operator]
    assert f"{len(logits)} lensed sources" in text
    assert "hosts as the sampling unit" in text
    assert "they include its scatter" in text
    assert "(measured on 10,000 non-lenses)" in text  # at 1 %, 100 false positives
    few = "(measured on 10,000 non-lenses, of which 10 set the threshold: its expected rate is"
    assert f"{few} 0.11%)" in text
    assert "old kind" not in text
    assert "theta_E = 1 to 2 arcsec" in text


def test_net_completeness_stands_beside_raw_with_its_meaning(
    made: Checkpoint, tmp_path: Path
) -> None:
    folder = write_grid(tmp_path / "mild", fpr_targets=[0.25], thresholds=[0.999])
    grid = grid_of(folder, made)
    text = methods_text(made, grid)
    table = pd.read_parquet(folder / "injections.parquet").dropna(subset="logit")
    own = pd.read_parquet(folder / "negatives.parquet").set_index("host_row")["logit"]
    for threshold in grid.thresholds:
        alone = own[table["host_row"]].to_numpy() > threshold.logit
        net = (table["logit"].to_numpy()[~alone] > threshold.logit).mean()
        found = grid.completeness(threshold)
        low, high = 100 * found.net_low, 100 * found.net_high
        assert f"{100 * net:.1f}% net (95% interval {low:.1f}-{high:.1f}%)" in text
        if threshold.fpr_target is not None:
            share = f"{100 * alone.mean():.2g}% of the injections"
            assert f"Other hosts hold {share} at a false-positive rate of 25%" in text
    assert "the injections at a score above" not in text
    assert "Net completeness is the fraction found among injections into hosts" in text
    old = methods_text(made, grid_of(without_hosts(folder), made))
    assert "% net" not in old
    assert "The hosts alone were not scored" in old


def test_seeing_and_depth_of_the_hosts_are_stated(made: Checkpoint, tmp_path: Path) -> None:
    axes = Axes(psf_fwhm=(1.0, 1.4, 0.4), depth_5sig=(23.0, 24.0, 1.0))
    folder = write_grid(tmp_path / "measured", axes=axes)
    # Hosts lie a quarter of a step above the centres.
    said = "the hosts have a PSF FWHM of 1.10 to 1.50 arcsec and a 5-sigma depth of 23.25 to 24.25"
    assert said in methods_text(made, grid_of(folder, made))
    folder = write_grid(tmp_path / "assumed", axes=axes, assumed={"psf_fwhm": 1.3})
    text = methods_text(made, grid_of(folder, made))
    assert "a PSF FWHM of 1.3 arcsec (assumed, not measured) and a 5-sigma depth of 23.25" in text


def test_the_auc_has_the_interval_of_the_report(made: Checkpoint) -> None:
    assert "0.9960 (no interval: the numbers of lenses and non-lenses are unknown)" in methods_text(
        made
    )
    counted = replace(made, data=made.data | {"n_validation": 250, "n_validation_lenses": 50})
    found = re.search(
        r"0\.9960 \(95% interval (0\.\d{4})-([01]\.\d{4}), 50 lenses and 200 non-lenses\)",
        methods_text(counted),
    )
    assert found is not None
    low, high = map(float, found.groups())
    assert low < 0.996 < high <= 1
    # Hanley and McNeil (1982), whose normal interval passes 1 here; below it is of the same size.
    first, second = 0.996 / (2 - 0.996), 2 * 0.996**2 / (1 + 0.996)
    squares = 49 * (first - 0.996**2) + 199 * (second - 0.996**2)
    error = math.sqrt((0.996 * 0.004 + squares) / (50 * 200))
    assert 0.996 - 6 * error < low < 0.996 - error
    few = replace(made, data=made.data | {"n_validation": 250, "n_validation_lenses": 9})
    assert "(9 lenses and 241 non-lenses, too few for an interval)" in methods_text(few)


def test_a_grid_of_another_model_is_refused(made: Checkpoint, grid_folder: Path) -> None:
    other = grid_of(grid_folder, replace(made, spec=LEGACY))
    with pytest.raises(
        SpecMismatchError, match=r"best\.safetensors and .*new have different preprocessing"
    ):
        methods_text(made, other)
    other = grid_of(grid_folder, replace(made, weights_sha256="ab"))
    with pytest.raises(ValueError, match="was scored by the checkpoint"):
        methods_text(made, other)


def test_latex_escapes_what_is_no_mathematics(made: Checkpoint, grid_folder: Path) -> None:
    made = replace(made, data={"data_origin": r"50% of a_b & $x$ {y}\z ~^#"})
    text = methods_text(made, grid_of(grid_folder, made), latex=True)
    assert r"$(r_\mathrm{in}, r_\mathrm{out}) = (32.5, 45.0)$ pixels" in text
    assert r"65--90\% of the half-width" in text
    assert r"$101 \times 101$" in text
    assert r"$\epsilon = 10^{-8}$" in text
    assert r"$\theta_\mathrm{E} = 1$ to 2 arcsec" in text
    assert (
        r"50\% of a\_b \& \$x\$ \{y\}\textbackslash{}z \textasciitilde{}\textasciicircum{}\#"
        in text
    )
    text = text.replace(r"\$", "")
    assert text.count("$") % 2 == 0
    outside = re.sub(r"\$.*?\$", "", text)
    assert not re.search(r"(?<!\\)[%&#_]", outside)


@pytest.mark.parametrize("suffix", [".md", ".tex"])
def test_a_file_says_what_it_was_written_from(
    made: Checkpoint, grid_folder: Path, tmp_path: Path, suffix: str
) -> None:
    made = replace(made, data={"data_origin": "a --> b"})
    grid = grid_of(grid_folder, made)
    path = tmp_path / f"methods{suffix}"
    write_methods(path, made, grid)
    metadata, text = read_methods(path)
    assert text == methods_text(made, grid, latex=suffix == ".tex")
    assert metadata == {
        "checkpoint_fingerprint": made.fingerprint,
        "spec_fingerprint": made.spec.fingerprint,
        "data_origin": "a --> b",
        "injections_fingerprint": grid.metadata["injections_fingerprint"],
    }
    first = path.read_text().splitlines()[0]
    assert first.startswith("%" if suffix == ".tex" else "<!--")
    assert first.count("-->") == (suffix == ".md")


@pytest.mark.parametrize("first", ["", "<!-- dhs methods: [1] -->", "<!-- dhs methods: { -->"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, first: str) -> None:
    path = tmp_path / "methods.md"
    path.write_text(f"{first}\ntext\n")
    with pytest.raises(ValueError, match="does not record its checkpoint"):
        read_methods(path)


def test_the_command(tmp_path: Path, grid_folder: Path) -> None:
    path = tmp_path / "best.safetensors"
    save(path)
    written = checkpoint.read(path)
    assert invoke(app, "methods", path).stdout == methods_text(written)
    assert invoke(app, "methods", path, "--latex").stdout == methods_text(written, latex=True)
    out = tmp_path / "methods.tex"
    assert invoke(app, "methods", path, "--out", out).exit_code == 0
    assert read_methods(out)[1] == methods_text(written, latex=True)
    refused = (
        (("--grid", grid_folder), "was scored by the checkpoint"),
        (("--grid", tmp_path), "has no grid.json"),
        (("--out", tmp_path / "methods.txt"), "must end in .md or .tex"),
        (("--latex", "--out", tmp_path / "methods.md"), "--latex needs an --out that ends in"),
    )
    for options, said in refused:
        result = invoke(app, "methods", path, *options)
        assert result.exit_code == 2
        assert said in message(result)
    assert not (tmp_path / "methods.txt").exists()


def test_other_sizes_have_another_history(made: Checkpoint) -> None:
    small = made.architecture | {"size": 64}
    spec = PreprocessSpec(annulus_r_in=0.65 * 32, annulus_r_out=0.9 * 32)
    assert "Earlier models" not in methods_text(replace(made, architecture=small, spec=spec))


def test_no_result_is_no_sentence(made: Checkpoint, grid_folder: Path) -> None:
    grid = grid_of(grid_folder, made)
    grid.thresholds = []
    assert methods_text(made, grid).endswith("scored by the same network.\n")
    assert isinstance(grid, GridResult)
