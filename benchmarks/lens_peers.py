"""Renderers of lenstronomy and caustics, with their conventions matched to ours.

Both have their own ``b_n`` (a fit, a series), so their half-light radius is chosen to give our
profile. lenstronomy measures it on the circle of equal area, at sqrt(q) of ours; caustics (1.7)
measures it along the major axis, as we do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dhs.constants import CUTOUT_SIZE, PIXEL_SCALE
from dhs.injection import LensParams, SourceParams, sersic_b, sersic_total_flux

Renderer = Callable[[NDArray[np.intp]], NDArray[np.float32]]


def _matched(source: SourceParams, b: NDArray[np.float64]) -> tuple[Any, Any]:
    """Return radius along the major axis, and light there, for our profile with another ``b``."""
    ours = sersic_b(source.n_sersic)
    radius = source.re_arcsec * (b / ours) ** source.n_sersic
    at_re = 1 / sersic_total_flux(source.n_sersic, source.re_arcsec, source.q)
    return radius, at_re * np.exp(ours - b)


def lenstronomy_renderer(lens: LensParams, source: SourceParams, sub_pixels: int) -> Renderer:
    """Render one image after the other with ``ImageModel``, SIE + SHEAR and SERSIC_ELLIPSE."""
    from lenstronomy.Data.imaging_data import ImageData
    from lenstronomy.Data.psf import PSF
    from lenstronomy.ImSim.image_model import ImageModel
    from lenstronomy.LensModel.lens_model import LensModel
    from lenstronomy.LightModel.light_model import LightModel
    from lenstronomy.LightModel.Profiles.sersic import Sersic
    from lenstronomy.Util.param_util import phi_q2_ellipticity

    corner = -(CUTOUT_SIZE - 1) / 2 * PIXEL_SCALE
    data = ImageData(
        image_data=np.zeros((CUTOUT_SIZE, CUTOUT_SIZE)),
        ra_at_xy_0=corner,
        dec_at_xy_0=corner,
        transform_pix2angle=np.eye(2) * PIXEL_SCALE,
    )
    model = ImageModel(
        data,
        PSF("NONE"),
        LensModel(["SIE", "SHEAR"]),
        LightModel(["SERSIC_ELLIPSE"]),
        kwargs_numerics={"supersampling_factor": sub_pixels},
    )
    b = np.array([Sersic().b_n(n) for n in source.n_sersic])
    radius, brightness = _matched(source, b)

    def settings(i: int) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
        e1, e2 = phi_q2_ellipticity(lens.phi_lens_rad[i], lens.q_lens[i])
        s1, s2 = phi_q2_ellipticity(source.phi_rad[i], source.q[i])
        sie = {"theta_E": lens.theta_e_arcsec[i], "e1": e1, "e2": e2}
        sie |= {"center_x": lens.x0_arcsec[i], "center_y": lens.y0_arcsec[i]}
        shear = {"gamma1": lens.shear_g1[i], "gamma2": lens.shear_g2[i], "ra_0": 0, "dec_0": 0}
        light = {"amp": brightness[i], "n_sersic": source.n_sersic[i]}
        light["R_sersic"] = radius[i] * np.sqrt(source.q[i])
        light |= {"e1": s1, "e2": s2}
        light |= {"center_x": source.beta_x_arcsec[i], "center_y": source.beta_y_arcsec[i]}
        return [sie, shear], [light]

    everything = [settings(i) for i in range(len(source))]

    def draw(some: NDArray[np.intp]) -> NDArray[np.float32]:
        images = [model.image(*everything[i], unconvolved=True) for i in some]
        return np.array(images, np.float32)

    return draw


def caustics_renderer(
    lens: LensParams, source: SourceParams, sub_pixels: int, together: int = 4
) -> Renderer:
    """Render all images with one ``vmap`` of a ``LensSource``, float32, SIE + shear and Sersic.

    It renders ``together`` images at a time, which is fastest here: more do not fit into the cache.
    """
    import caustics
    from caustics.light.func import k_sersic

    cosmology = caustics.FlatLambdaCDM(name="cosmology")
    distances = {"cosmology": cosmology, "z_l": 0.5, "z_s": 1.5}
    sie = caustics.SIE(name="sie", **distances)
    shear = caustics.ExternalShear(name="shear", x0=0.0, y0=0.0, **distances)
    plane = caustics.SinglePlane(name="plane", lenses=[sie, shear], **distances)
    light = caustics.Sersic(name="light")
    model = caustics.LensSource(
        plane, light, pixelscale=PIXEL_SCALE, pixels_x=CUTOUT_SIZE, upsample_factor=sub_pixels
    )
    model.to(dtype=torch.float32)
    b = k_sersic(torch.from_numpy(source.n_sersic.copy())).numpy()
    radius, brightness = _matched(source, b)
    columns = [
        *(lens.x0_arcsec, lens.y0_arcsec, lens.q_lens, lens.phi_lens_rad, lens.theta_e_arcsec),
        *(lens.shear_g1, lens.shear_g2),
        *(source.beta_x_arcsec, source.beta_y_arcsec, source.q, source.phi_rad),
        *(source.n_sersic, radius, brightness),
    ]
    table = torch.from_numpy(np.stack(columns, axis=1)).to(torch.float32)
    batched = torch.vmap(model, chunk_size=together)

    def draw(some: NDArray[np.intp]) -> NDArray[np.float32]:
        with torch.inference_mode():
            images: NDArray[np.float32] = batched(table[torch.from_numpy(some)]).numpy()
        return images * np.float32(PIXEL_SCALE**2)

    return draw
