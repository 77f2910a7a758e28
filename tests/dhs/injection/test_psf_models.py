"""PSF profiles by name: half their peak at half their width, in NumPy and in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dhs.injection import PSF
from dhs.injection.psf_models import PSF_MODELS, psf_profile
from dhs.injection.psf_tensors import psf_transfer


@pytest.mark.parametrize("model", PSF_MODELS)
def test_half_of_the_peak_is_at_half_of_the_width(model: str) -> None:
    profile = psf_profile(model)
    radius_in_fwhm = np.array([0.0, 0.5, 1.0, 5.0])
    value = profile.value(profile.sharpness * radius_in_fwhm**2)
    assert value[:2].tolist() == pytest.approx([1.0, 0.5])
    assert (np.diff(value) <= 0).all()


@pytest.mark.parametrize("model", PSF_MODELS)
def test_every_model_gives_the_same_psfs_in_numpy_and_torch(model: str) -> None:
    profile, widths = psf_profile(model), np.array([[1.4, 1.3, 1.2], [0.9, 1.0, 1.1]])
    psf = PSF.of_profile(
        profile, widths[:, 1], fwhm_g_arcsec=widths[:, 0], fwhm_z_arcsec=widths[:, 2]
    )
    transfer = psf_transfer(torch.from_numpy(widths), (96, 100), profile=profile)
    padded = np.zeros((2, 3, 96, 100))
    padded[:, :, :63, :63] = psf.images
    expected = np.fft.rfft2(np.roll(padded, (-31, -31), axis=(2, 3)))
    np.testing.assert_allclose(transfer[..., ::2].numpy(), expected, atol=1e-14)
    assert torch.equal(transfer[..., ::2], transfer[..., 1::2])


def test_named_constructors_are_models() -> None:
    assert np.array_equal(
        PSF.moffat(1.3, beta=2.5).images,
        PSF.of_profile(psf_profile("moffat", beta=2.5), 1.3).images,
    )
    assert np.array_equal(
        PSF.gaussian(1.3).images, PSF.of_profile(psf_profile("gaussian"), 1.3).images
    )


def test_an_option_that_a_model_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="model='gaussian' does not take beta"):
        psf_profile("gaussian", beta=2)


def test_a_model_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="model='airy' is not known; expected one of 'moffat'"):
        psf_profile("airy")
