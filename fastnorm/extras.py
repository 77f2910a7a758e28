"""How a missing optional package is installed, for error messages."""

from __future__ import annotations


def how_to_install(extra: str) -> str:
    """Return the command that installs an extra, for a message after a colon.

    Parameters
    ----------
    extra : str
        Name in ``[project.optional-dependencies]``, such as "cli".

    Returns
    -------
    str
    """
    return f"pip install '.[{extra}]' in a checkout"


EXTRA_OF = {
    **dict.fromkeys(("torch", "triton"), "torch"),
    **dict.fromkeys(("astropy", "matplotlib", "pyarrow"), "cli"),
    **dict.fromkeys(
        (
            *("astropy_healpix", "jinja2", "packaging", "pandas", "plotly", "pydantic"),
            *("safetensors", "scipy", "sklearn", "timm", "torchvision", "urllib3", "yaml"),
        ),
        "dhs",
    ),
    "distributed": "dask",
    "numba_cuda": "cuda",
}
"""Extra that installs each optional module."""


def missing_package(error: ImportError) -> str | None:
    """Describe a missing optional package; None if the error is a different one."""
    module = (error.name or "").partition(".")[0]
    extra = EXTRA_OF.get(module)
    if extra is None or not isinstance(error, ModuleNotFoundError):
        return None
    return f"this needs the package {module}, which is not installed: {how_to_install(extra)}"
