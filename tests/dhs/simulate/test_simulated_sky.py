"""The sky of a simulated survey agrees with its manifest and configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.stats import ks_2samp

from dhs.simulate.config import SurveyConfig, read_survey_config, survey_config
from dhs.simulate.figure import survey_figure
from dhs.simulate.images import simulate_cutouts
from dhs.simulate.scene import draw_scene
from fastnorm.annulus import radius_map
from tests import ROOT

SHAPE = (3, 101, 101)
SCALE = 0.262
YAML = ROOT / "configs" / "simulated_survey.yaml"


def config_with(**sections: dict[str, Any]) -> SurveyConfig:
    everything = survey_config().model_dump()
    for name, values in sections.items():
        everything[name] |= values
    return SurveyConfig.model_validate(everything)


NOTHING_BUT_HOSTS: dict[str, dict[str, Any]] = {
    "neighbours": {"per_arcmin2": 0, "companions_prob": 0},
    "stars": {"per_arcmin2": 0},
}
DARK_HOSTS: dict[str, dict[str, Any]] = {"hosts": {"r_mag_range": (40, 40.1)}}
NO_NOISE: dict[str, dict[str, Any]] = {
    "observation": {
        f"depth_5sigma_mag_{band}": {"mean": 45, "sigma": 1, "low": 44.9, "high": 45.1}
        for band in "grz"
    }
    | {f"sky_mag_per_arcsec2_{band}": 0.0 for band in "grz"}
}


@pytest.fixture(scope="module")
def scenes() -> list[Any]:
    return [draw_scene(survey_config(), 1, number, 0.3) for number in range(3000)]


def test_labels_and_tiers(scenes: list[Any]) -> None:
    tiers = [scene.tier for scene in scenes]
    arcs = len(tiers) - tiers.count("")
    assert abs(arcs - 900) < 4 * np.sqrt(3000 * 0.3 * 0.7)
    assert abs(tiers.count("bright") - arcs / 2) < 4 * np.sqrt(arcs / 4)
    # The label does not depend on the number of a cutout: any fifth of the rows has as many arcs.
    for k in range(5):
        assert abs(sum(tier != "" for tier in tiers[k::5]) - 180) < 4 * np.sqrt(600 * 0.3 * 0.7)
    assert not any(draw_scene(survey_config(), 1, i, 0.0).tier for i in range(50))
    assert all(draw_scene(survey_config(), 1, i, 1.0).tier for i in range(50))


QUANTITIES: dict[str, Callable[[Any], float]] = {
    "magnitude": lambda scene: float(scene.host["host_r_mag"]),
    "colour": lambda scene: float(scene.host["host_g_minus_r"]),
    "radius": lambda scene: float(scene.host["host_re_arcsec"]),
    "axis ratio": lambda scene: float(scene.host["host_q"]),
    "seeing": lambda scene: float(scene.fwhm[1]),
    "depth": lambda scene: float(scene.psf_ivar[0]),
    "neighbours": lambda scene: float(len(scene.galaxies)),
}


@pytest.mark.parametrize("name", QUANTITIES)
def test_hosts_do_not_tell_the_label(scenes: list[Any], name: str) -> None:
    values: dict[bool, list[float]] = {True: [], False: []}
    for scene in scenes:
        values[scene.tier != ""].append(QUANTITIES[name](scene))
    assert ks_2samp(values[True], values[False]).pvalue > 0.005


def test_drawn_values_follow_the_file(scenes: list[Any]) -> None:
    config = survey_config()
    late = np.mean([scene.host["host_type"] == "late" for scene in scenes])
    assert late == pytest.approx(config.hosts.late_fraction, abs=0.03)
    mags = np.array([scene.host["host_r_mag"] for scene in scenes])
    assert mags.min() >= 17.5
    assert mags.max() <= 20.8
    # Counts grow by 0.3 dex per magnitude.
    one, two = np.sum((mags > 18.5) & (mags < 19.5)), np.sum((mags > 19.5) & (mags < 20.5))
    assert np.log10(two / one) == pytest.approx(0.3, abs=0.06)
    seeing = np.array([scene.fwhm[1] for scene in scenes])
    assert seeing.min() >= 0.9
    assert seeing.max() <= 1.8
    assert seeing.mean() == pytest.approx(1.2, abs=0.03)
    depth = 22.5 - 2.5 * np.log10(5 / np.sqrt([scene.psf_ivar for scene in scenes]))
    assert np.abs(depth.mean(axis=0) - [24.7, 24.0, 23.0]).max() < 0.02


def test_an_arc_is_all_that_a_label_adds() -> None:
    numbers = range(24)
    without, with_arc = (simulate_cutouts(numbers, 2, share) for share in (0.0, 1.0))
    radius = radius_map(101, 101)
    ring, outside = (radius >= 4) & (radius < 16), radius > 45
    tiers = set()
    for k in numbers:
        bare, row = without.rows[k], with_arc.rows[k]
        assert {name: row[name] for name in bare} == bare | {
            name: row[name] for name in ("label", "tier")
        }
        arc = with_arc.images[k] - without.images[k]
        kernel = moffat(row["psfsize_r"])
        sigma = np.sqrt((kernel**2).sum() / row["psfdepth_r"])
        assert np.abs(arc[1][outside]).max() < 0.05 * sigma
        snr = arc[1][ring].sum() / (sigma * np.sqrt(ring.sum()))
        assert snr == pytest.approx(row["arc_snr_r"], rel=0.03, abs=0.1)
        tiers.add(row["tier"])
        if row["tier"] == "limit":
            assert 1 <= row["arc_snr_r"] <= 5
        else:
            assert row["arc_snr_r"] > 8
            assert 21.3 <= row["source_r_mag"] <= 23.3
            total = arc[1].sum() / row["source_flux_nmgy_r"]
            assert total == pytest.approx(row["magnification"], rel=0.05)
        flux = 10 ** ((22.5 - row["source_r_mag"]) / 2.5)
        assert flux == pytest.approx(row["source_flux_nmgy_r"])
    assert tiers == {"bright", "limit"}


def moffat(fwhm: float, side: int = 63) -> NDArray[np.float64]:
    """Compute the PSF as an image with sum 1, independently of the package."""
    rows, columns = np.mgrid[:side, :side] - side // 2
    alpha = fwhm / SCALE / (2 * np.sqrt(2 ** (1 / 3.5) - 1))
    image = (1 + (rows**2 + columns**2) / alpha**2) ** -3.5
    result: NDArray[np.float64] = image / image.sum()
    return result


def test_noise_is_what_psfdepth_says() -> None:
    """Optimal flux estimates of a point source on empty sky scatter by 1 / sqrt(psfdepth)."""
    made = simulate_cutouts(range(24), 5, 0.0, config_with(**NOTHING_BUT_HOSTS, **DARK_HOSTS))
    pulls = []
    for image, row in zip(made.images, made.rows, strict=True):
        for plane, band in zip(image, "grz", strict=True):
            # Tiles of 33 pixels do not overlap, and they contain practically all of p^2.
            kernel = moffat(row[f"psfsize_{band}"])[15:48, 15:48]
            sigma = np.sqrt((moffat(row[f"psfsize_{band}"]) ** 2).sum() / row[f"psfdepth_{band}"])
            assert plane.std() == pytest.approx(sigma, rel=0.04)
            for tile in plane[1:100, 1:100].reshape(3, 33, 3, 33).swapaxes(1, 2).reshape(9, 33, 33):
                flux = (tile * kernel).sum() / (kernel**2).sum()
                pulls.append(flux * np.sqrt(row[f"psfdepth_{band}"]))
    assert np.std(pulls) == pytest.approx(1, abs=4 / np.sqrt(2 * len(pulls)))
    assert np.mean(pulls) == pytest.approx(0, abs=4 / np.sqrt(len(pulls)))


def fitted_fwhm(plane: NDArray[np.float32]) -> float:
    """Fit a Moffat profile to the peak of the brightest source, and return its FWHM, arcsec."""
    row, column = np.unravel_index(int(plane.argmax()), plane.shape)
    window = plane[row - 8 : row + 9, column - 8 : column + 9].astype(np.float64)
    rows, columns = np.mgrid[-8:9, -8:9]

    def residual(values: NDArray[np.float64]) -> Any:
        peak, y, x, fwhm, beta = values
        square = (rows - y) ** 2 + (columns - x) ** 2
        model = peak * (1 + 4 * (2 ** (1 / beta) - 1) * square / fwhm**2) ** -beta
        return (model - window / window.max()).ravel()

    return float(least_squares(residual, (1.0, 0.0, 0.0, 5.0, 3.0)).x[3]) * SCALE


def test_stars_are_as_wide_as_psfsize_says() -> None:
    nothing = NOTHING_BUT_HOSTS | DARK_HOSTS | NO_NOISE
    stars: dict[str, Any] = {"per_arcmin2": 4.0, "r_mag_range": (19, 20)}
    made = simulate_cutouts(range(40), 6, 0.0, config_with(**nothing | {"stars": stars}))
    measured = 0
    for image, row in zip(made.images, made.rows, strict=True):
        place = np.unravel_index(int(image[1].argmax()), image[1].shape)
        if row["n_stars"] == 1 and all(9 <= coordinate < 92 for coordinate in place):
            for plane, band in zip(image, "grz", strict=True):
                assert fitted_fwhm(plane) == pytest.approx(row[f"psfsize_{band}"], rel=1e-3)
            measured += 1
    assert measured >= 4


def test_galaxies_are_seen_through_the_same_psf() -> None:
    """A point-like host is as wide as the PSF, and no light is lost."""
    points: dict[str, Any] = {
        "hosts": {"late_fraction": 0, "center_sigma_arcsec": 0},
        "early": {
            "log10_re_arcsec": {"at_r_mag": 19, "value": -1.7, "per_mag": 0, "sigma": 0},
            "n_sersic": {"mean": 1, "sigma": 0.1, "low": 0.9, "high": 1.1},
        },
    }
    config = config_with(**NOTHING_BUT_HOSTS, **NO_NOISE, **points)
    made = simulate_cutouts(range(6), 7, 0.0, config)
    for image, row in zip(made.images, made.rows, strict=True):
        assert 22.5 - 2.5 * np.log10(image[1].sum()) == pytest.approx(row["host_r_mag"], abs=0.01)
        colour = -2.5 * np.log10(image[0].sum() / image[1].sum())
        assert colour == pytest.approx(row["host_g_minus_r"], abs=0.01)
        for plane, band in zip(image, "grz", strict=True):
            assert fitted_fwhm(plane) == pytest.approx(row[f"psfsize_{band}"], rel=1e-3)


def test_photons_of_the_object_add_noise() -> None:
    bright: dict[str, Any] = {"hosts": {"r_mag_range": (16.0, 16.1), "late_fraction": 0}}
    only = NOTHING_BUT_HOSTS | bright
    noisy = simulate_cutouts(range(8), 8, 0.0, config_with(**only)).images
    clean = simulate_cutouts(range(8), 8, 0.0, config_with(**only | NO_NOISE)).images
    centre, corner = (slice(45, 56), slice(45, 56)), (slice(0, 20), slice(0, 20))
    noise = noisy - clean
    sky = 10 ** ((22.5 - 20.91) / 2.5) * SCALE**2
    for image, difference in zip(clean[:, 1], noise[:, 1], strict=True):
        expected = np.sqrt(1 + image[centre].mean() / sky)
        ratio = difference[centre].std() / difference[corner].std()
        assert ratio == pytest.approx(expected, rel=0.35)
        assert ratio > 1.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda values: values["stars"].update(colour=1),
            r"stars\.colour is not a known key \(allowed: ",
        ),
        (
            lambda values: values.update(moon={}),
            r"moon is not a known key \(allowed: observation",
        ),
        (lambda values: values["early"].pop("q"), r"early\.q is missing"),
        (lambda values: values["hosts"].update(r_mag_range=[20, 18]), "is not a valid range"),
        (lambda values: values["hosts"].update(late_fraction=2), "late_fraction: Input should be"),
        (
            lambda values: values["observation"]["psf_fwhm_r_arcsec"].update(mean=3.0),
            "must be between low=0.9 and high=1.8",
        ),
    ],
)
def test_configs_are_checked(tmp_path: Path, change: Callable[[Any], Any], message: str) -> None:
    values = yaml.safe_load(YAML.read_text())
    change(values)
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ValueError, match=message) as caught:
        read_survey_config(tmp_path / "my.yaml")
    assert "my.yaml is not valid" in str(caught.value)


def test_a_config_that_is_no_yaml(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("a: [")
    with pytest.raises(ValueError, match="is not valid YAML"):
        read_survey_config(tmp_path / "my.yaml")
    (tmp_path / "my.yaml").write_text("")
    with pytest.raises(ValueError, match="it needs the sections observation, hosts"):
        read_survey_config(tmp_path / "my.yaml")


def test_picture_of_the_survey() -> None:
    images = np.zeros((10, *SHAPE), np.float32)
    figure = survey_figure(images, ["bright", "limit", *[""] * 8], "title")
    assert len(figure.axes) == 10
    assert [len(axes.patches) for axes in figure.axes] == [1, 1] + [0] * 8
    assert {axes.images[0].origin for axes in figure.axes} == {"lower"}
    with pytest.raises(ValueError, match="give 1 to 64"):
        survey_figure(np.zeros((65, *SHAPE), np.float32), [""] * 65, "title")
    with pytest.raises(ValueError, match="tiers has 1 entries"):
        survey_figure(images, [""], "title")
