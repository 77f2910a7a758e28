"""The priors: every number comes from the file, and draws follow it."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest
import yaml
from numpy.typing import NDArray
from scipy import stats

from dhs.injection import (
    SourceParams,
    injection_priors,
    priors,
    sample_lens_params,
    sample_source_params,
)
from dhs.utils import default_annulus_radii
from tests import ROOT

FILE = ROOT / "configs" / "injection_priors.yaml"
TEXT = FILE.read_text("utf-8")
YAML: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)
SAMPLERS: dict[str, Callable[..., Any]] = {
    "source_params": sample_source_params,
    "lens_params": sample_lens_params,
    "model2_conditioning": sample_lens_params,
}
ARGUMENTS = [(section, key) for section in SAMPLERS for key in YAML[section]]
COUNT = 10_000


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


THETA_E = rng(99).uniform(0.5, 3, COUNT)
SOURCE = sample_source_params(rng(1), THETA_E)
LENS = sample_lens_params(rng(2), THETA_E)
# Each of these tests fails for one seed in 10^5; the seeds are fixed.
UNLIKELY = 1e-5


def assert_uniform(values: NDArray[np.float64], low: float, high: float) -> None:
    assert low <= values.min() < values.max() <= high
    assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > UNLIKELY


def assert_normal(values: NDArray[np.float64], mean: float, sigma: float) -> None:
    assert abs(values.mean() - mean) < 4.5 * sigma / np.sqrt(values.size)
    assert abs(values.std() / sigma - 1) < 4.5 / np.sqrt(2 * values.size)
    assert stats.kstest(values, stats.norm(mean, sigma).cdf).pvalue > UNLIKELY


def magnitude(band: str, source: SourceParams = SOURCE) -> NDArray[np.float64]:
    flux: NDArray[np.float64] = getattr(source, f"flux_nmgy_{band}")
    return 22.5 - 2.5 * np.log10(flux)


@pytest.mark.parametrize(("section", "key"), ARGUMENTS)
def test_defaults_are_those_of_the_file(section: str, key: str) -> None:
    default = inspect.signature(SAMPLERS[section]).parameters[key].default
    assert np.array_equal(default, YAML[section][key])
    assert np.array_equal(getattr(getattr(injection_priors(), section), key), YAML[section][key])


def test_the_file_has_all_defaults_and_no_others() -> None:
    assert set(YAML) == {*SAMPLERS, "preprocessing"}
    for sampler in (sample_source_params, sample_lens_params):
        keys = {key for section, key in ARGUMENTS if SAMPLERS[section] is sampler}
        parameters = inspect.signature(sampler).parameters.values()
        assert {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} == keys | (
            {"q_host", "phi_host_rad"} if sampler is sample_lens_params else set()
        )
        others = [p.default for p in parameters if p.name not in keys]
        assert all(default in (None, inspect.Parameter.empty) for default in others)


def test_values_of_the_published_grid() -> None:
    assert YAML["source_params"] == {
        "r_mag_range": [23.0, 26.0],
        "beta_frac_range": [0.1, 0.4],
        "re_arcsec_range": [0.15, 0.5],
        "n_range": [0.5, 2.0],
        "q_range": [0.3, 1.0],
        "g_minus_r_mu_sigma": [1.15, 0.3],
        "r_minus_z_mu_sigma": [0.85, 0.2],
        "clumps_prob": 0.0,
        "clumps_n_range": [1, 4],
        "clumps_frac_range": [0.15, 0.45],
    }
    assert YAML["lens_params"] == {
        "shear_sigma": 0.05,
        "center_sigma_arcsec": 0.05,
        "q_lens_range": [0.5, 1.0],
    }
    assert YAML["model2_conditioning"] == {"q_scatter": 0.05, "q_floor": 0.5}


def test_preprocessing_section() -> None:
    section = injection_priors().preprocessing
    assert (section.annulus_r_in, section.annulus_r_out) == (20, 32)
    corrected = (section.corrected_annulus_r_in, section.corrected_annulus_r_out)
    assert corrected == (32.5, 45.0) == default_annulus_radii(101, 101)
    assert section.clip_range == 10.0


def test_every_value_has_a_comment() -> None:
    """The comment is above or next to the value, or above the other value of its pair."""
    pairs = {
        "r_minus_z_mu_sigma": "g_minus_r_mu_sigma",
        "annulus_r_out": "annulus_r_in",
        "corrected_annulus_r_out": "corrected_annulus_r_in",
    }
    explained, values, before = set(), [], ""
    for line in TEXT.splitlines():
        if match := re.match(r"  (\w+): [^#]*(#.*)?$", line):
            values.append(match[1])
            if match[2] or before == "#" or before == pairs.get(match[1]):
                explained.add(match[1])
        before = "#" if line.lstrip().startswith("#") else match[1] if match else ""
    assert [value for value in values if value not in explained] == []
    assert values == [key for section in YAML.values() for key in section]


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(ROOT.joinpath("dhs").rglob("*.py")):
        yield path, ast.parse(path.read_text("utf-8"))


def literal(node: ast.expr | None) -> Any:
    try:
        return None if node is None else ast.literal_eval(node)
    except ValueError:
        return None


def test_no_default_of_a_sampler_is_a_literal() -> None:
    tree = ast.parse(inspect.getsource(priors))
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for sampler in {*SAMPLERS.values()}:
        arguments = functions[sampler.__name__].args
        assert not arguments.defaults
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
            assert literal(default) is None, argument.arg


def named_values(node: ast.AST) -> Iterator[tuple[str, ast.expr | None]]:
    if isinstance(node, ast.keyword) and node.arg:
        yield node.arg, node.value
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Name):
                yield target.id, node.value


def test_numbers_of_the_priors_are_nowhere_else() -> None:
    keys = {key for _, key in ARGUMENTS}
    # The other ranges have round numbers at both ends, which any pair may have.
    telling = YAML["source_params"].keys() - {"n_range", "q_range", "clumps_n_range", "clumps_prob"}
    pairs = [YAML["source_params"][key] for key in telling]
    found = []
    for path, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Tuple | ast.List):
                found += [
                    (path.name, pair) for pair in [literal(node)] if list(pair or ()) in pairs
                ]
            for name, value in named_values(node):
                if name in keys and literal(value) is not None:
                    found.append((path.name, name))
    assert found == []


def changed_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: Any) -> None:
    tmp_path.joinpath(FILE.name).write_text(yaml.safe_dump(data), "utf-8")
    monkeypatch.setattr("dhs.injection.priors.resources.files", lambda package: tmp_path)


def test_an_unknown_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for section in (None, *YAML):
        data = yaml.safe_load(TEXT)
        (data if section is None else data[section])["n_rnage"] = [1.0, 2.0]
        changed_file(tmp_path, monkeypatch, data)
        with pytest.raises(pydantic.ValidationError, match="n_rnage"):
            injection_priors.__wrapped__()


def test_a_missing_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for section, values in YAML.items():
        for key in values:
            data = yaml.safe_load(TEXT)
            del data[section][key]
            changed_file(tmp_path, monkeypatch, data)
            with pytest.raises(
                pydantic.ValidationError, match=rf"{section}.{key}\s+Field required"
            ):
                injection_priors.__wrapped__()


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("source_params", "r_mag_range", [26.0, 23.0]),
        ("source_params", "n_range", [0.5]),
        ("source_params", "q_range", [0.3, float("nan")]),
        ("source_params", "clumps_prob", 1.1),
        ("source_params", "clumps_n_range", [1.5, 4]),
        ("lens_params", "shear_sigma", -0.05),
        ("model2_conditioning", "q_floor", 0.0),
        ("preprocessing", "clip_range", 0.0),
        ("preprocessing", "annulus_r_in", "inner"),
    ],
)
def test_a_bad_value_in_the_file_is_refused(
    section: str, key: str, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = yaml.safe_load(TEXT)
    data[section][key] = value
    changed_file(tmp_path, monkeypatch, data)
    with pytest.raises(pydantic.ValidationError, match=f"{section}.{key}"):
        injection_priors.__wrapped__()


def test_sizes_indices_and_axis_ratios() -> None:
    assert_uniform(SOURCE.re_arcsec, 0.15, 0.5)
    assert_uniform(SOURCE.n_sersic, 0.5, 2.0)
    assert_uniform(SOURCE.q, 0.3, 1.0)
    assert_uniform(SOURCE.phi_rad, 0, np.pi)


def test_positions_are_uniform_in_area() -> None:
    beta = np.hypot(SOURCE.beta_x_arcsec, SOURCE.beta_y_arcsec) / THETA_E
    assert 0.1 <= beta.min() < beta.max() <= 0.4

    def share_within(b: NDArray[np.float64]) -> NDArray[np.float64]:
        return (b**2 - 0.1**2) / (0.4**2 - 0.1**2)

    assert stats.kstest(beta, share_within).pvalue > UNLIKELY
    angle = np.arctan2(SOURCE.beta_y_arcsec, SOURCE.beta_x_arcsec)
    assert_uniform(angle, -np.pi, np.pi)
    # The test can detect a distance that is itself uniform.
    assert stats.kstest(rng().uniform(0.1, 0.4, COUNT), share_within).pvalue < 1e-20


def test_magnitudes_and_fluxes() -> None:
    assert_uniform(magnitude("r"), 23.0, 26.0)
    assert_normal(magnitude("g") - magnitude("r"), 1.15, 0.30)
    assert_normal(magnitude("r") - magnitude("z"), 0.85, 0.20)
    at_zero_point = sample_source_params(rng(), 1.0, r_mag_range=(22.5, 22.5))
    np.testing.assert_allclose(at_zero_point.flux_nmgy_r, 1.0, rtol=1e-14)
    fainter = sample_source_params(rng(), 1.0, r_mag_range=(25.0, 25.0))
    np.testing.assert_allclose(fainter.flux_nmgy_r, 0.1, rtol=1e-14)


def test_no_clumps_unless_asked_for() -> None:
    assert (SOURCE.n_clumps == 0).all()
    assert (SOURCE.clump_frac == 0).all()


def test_clumps() -> None:
    source = sample_source_params(rng(3), THETA_E, clumps_prob=1.0)
    number, times = np.unique(source.n_clumps, return_counts=True)
    np.testing.assert_array_equal(number, [1, 2, 3, 4])
    assert stats.chisquare(times).pvalue > UNLIKELY
    assert_uniform(source.clump_frac, 0.15, 0.45)
    some = sample_source_params(rng(3), THETA_E, clumps_prob=0.3)
    has_clumps = some.n_clumps > 0
    assert abs(has_clumps.mean() - 0.3) < 0.02
    np.testing.assert_array_equal(some.clump_frac > 0, has_clumps)
    # Clumps change nothing else in the draw.
    for name, values in SOURCE.arrays().items():
        if "clump" not in name:
            again = sample_source_params(rng(1), THETA_E, clumps_prob=1.0)
            np.testing.assert_array_equal(getattr(again, name), values)


def test_lenses() -> None:
    np.testing.assert_array_equal(LENS.theta_e_arcsec, THETA_E)
    for values in (LENS.shear_g1, LENS.shear_g2, LENS.x0_arcsec, LENS.y0_arcsec):
        assert_normal(values, 0.0, 0.05)
    assert_uniform(LENS.q_lens, 0.5, 1.0)
    assert_uniform(LENS.phi_lens_rad, 0, np.pi)


def test_quantities_are_independent() -> None:
    fields = {**SOURCE.arrays(), **LENS.arrays()}
    dependent = {"beta_x_arcsec", "beta_y_arcsec", "flux_nmgy_g", "flux_nmgy_z"}
    chosen = {k: v for k, v in fields.items() if k not in dependent and "clump" not in k}
    correlation = np.corrcoef(np.stack(list(chosen.values())))
    assert np.abs(correlation - np.eye(len(chosen))).max() < 0.05


def test_masses_that_follow_the_light() -> None:
    """Model 2: scatter around the light, a floor, a ceiling, and the angle of the light."""
    lens = sample_lens_params(rng(4), THETA_E, q_host=0.75, phi_host_rad=0.4)
    assert_normal(lens.q_lens, 0.75, 0.05)
    np.testing.assert_array_equal(lens.phi_lens_rad, 0.4)
    for q_host, end in ((0.5, 0.5), (1.0, 1.0)):
        q_lens = sample_lens_params(rng(5), THETA_E, q_host=q_host).q_lens
        assert q_lens.min() >= 0.5
        assert q_lens.max() <= 1.0
        assert abs((q_lens == end).mean() - 0.5) < 0.03
    assert (sample_lens_params(rng(5), THETA_E, q_host=0.2).q_lens == 0.5).mean() > 0.999
    light = rng(6).uniform(0.6, 0.9, COUNT)
    exact = sample_lens_params(rng(7), THETA_E, q_host=light, q_scatter=0.0)
    np.testing.assert_array_equal(exact.q_lens, light)
    lower = sample_lens_params(rng(7), THETA_E, q_host=0.2, q_scatter=0.0, q_floor=0.1)
    np.testing.assert_array_equal(lower.q_lens, 0.2)
    assert_uniform(sample_lens_params(rng(8), THETA_E, q_host=0.7).phi_lens_rad, 0, np.pi)
    # The rest of a lens is that of Model 1.
    for name in ("shear_g1", "shear_g2", "x0_arcsec", "y0_arcsec"):
        other = sample_lens_params(rng(2), THETA_E, q_host=0.7)
        np.testing.assert_array_equal(getattr(other, name), getattr(LENS, name))


def test_seeds_reproduce() -> None:
    for sampler in (sample_source_params, sample_lens_params):
        first, again, other = (sampler(rng(seed), THETA_E) for seed in (11, 11, 12))
        for name, values in first.arrays().items():
            np.testing.assert_array_equal(getattr(again, name), values)
            if name != "theta_e_arcsec" and "clump" not in name:
                assert (getattr(other, name) != values).all()


@pytest.mark.parametrize("theta_e", [1.25, [1.25], np.array(1.25), np.float32(1.25)])
def test_a_number_is_a_batch_of_one(theta_e: Any) -> None:
    for sampler in (sample_source_params, sample_lens_params):
        one, expected = sampler(rng(13), theta_e), sampler(rng(13), np.array([1.25]))
        assert len(one) == 1
        for name, values in expected.arrays().items():
            np.testing.assert_array_equal(getattr(one, name), values)


@pytest.mark.parametrize("kind", ["source", "lens"])
@pytest.mark.parametrize(
    ("theta_e", "words"),
    [
        (0.0, r"theta_e_arcsec=0 .*\(0, 1000\]"),
        ([1.0, -1.0], r"theta_e_arcsec\[1\]=-1 .*\(0, 1000\]"),
        ([1.0, 2.0, np.nan], r"theta_e_arcsec\[2\]=nan"),
        ([[1.0]], r"theta_e_arcsec has shape \(1, 1\)"),
    ],
)
def test_bad_einstein_radii(kind: str, theta_e: Any, words: str) -> None:
    sampler = sample_source_params if kind == "source" else sample_lens_params
    with pytest.raises(ValueError, match=words):
        sampler(rng(), theta_e)


BAD_OPTIONS: list[tuple[Callable[..., Any], dict[str, Any], str]] = [
    (
        sample_source_params,
        {"r_mag_range": (26.0, 23.0)},
        r"r_mag_range=\(26.0, 23.0\) is not a valid range",
    ),
    (sample_source_params, {"q_range": (0.3, 0.5, 1.0)}, "q_range=.* is not a valid range"),
    (sample_source_params, {"n_range": (0.5, np.nan)}, r"n_range\[1\]=nan"),
    (sample_source_params, {"n_range": (8.0, 9.0)}, r"n_sersic\[0\]=.* \[0.3, 8\]"),
    (sample_source_params, {"beta_frac_range": (-0.1, 0.4)}, r"beta_frac_range\[0\]=-0.1 "),
    (sample_source_params, {"clumps_prob": 1.5}, r"clumps_prob=1.5 .*\[0, 1\]"),
    (sample_source_params, {"clumps_n_range": (0, 4)}, r"clumps_n_range\[0\]=0 .*\[1, 64\]"),
    (sample_source_params, {"g_minus_r_mu_sigma": (1.0, -0.1)}, r"g_minus_r_mu_sigma\[1\]=-0.1 "),
    (sample_source_params, {"g_minus_r_mu_sigma": (1.0, np.inf)}, r"g_minus_r_mu_sigma\[1\]=inf "),
    (sample_lens_params, {"shear_sigma": -0.1}, r"shear_sigma=-0.1 .*\[0, inf\)"),
    (sample_lens_params, {"center_sigma_arcsec": np.nan}, r"center_sigma_arcsec=nan "),
    (sample_lens_params, {"q_lens_range": (1.0, 0.5)}, "q_lens_range=.* is not a valid range"),
    (sample_lens_params, {"q_scatter": -1.0}, r"q_scatter=-1 "),
    (sample_lens_params, {"q_floor": 0.0}, r"q_floor=0 .*\(0, 1\]"),
    (sample_lens_params, {"q_host": 1.2}, r"q_host=1.2 .*\(0, 1\]"),
    (sample_lens_params, {"q_host": [0.5, 0.0]}, r"q_host\[1\]=0 .*\(0, 1\]"),
    (sample_lens_params, {"phi_host_rad": np.inf}, r"phi_host_rad=inf "),
]


@pytest.mark.parametrize(("sampler", "options", "words"), BAD_OPTIONS)
def test_bad_options(sampler: Callable[..., Any], options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        sampler(rng(), [1.0, 1.5], **options)
