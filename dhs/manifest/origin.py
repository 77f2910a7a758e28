"""Origin of cutouts: the survey and release that a manifest or its user states."""

from __future__ import annotations

from pathlib import Path


def agreed_origin(given: str | None, inherited: object, path: str | Path) -> str | None:
    """Return the origin of cutouts, which two statements must not contradict.

    Parameters
    ----------
    given : str, optional
        Survey and release from the user.
    inherited : object
        Entry ``data_origin`` in the metadata of a manifest; None if it has none.
    path : str or Path
        The manifest, for the error messages.

    Returns
    -------
    str or None
        None if neither is stated.

    Raises
    ------
    ValueError
        The given origin is empty, the inherited one is not text, or the two differ.
    """
    if given is not None and not given.strip():
        raise ValueError(
            "data_origin is empty; give survey and release, for example legacysurvey-dr10."
        )
    if inherited is not None and (not isinstance(inherited, str) or not inherited):
        raise ValueError(f"{path} has data_origin={inherited!r} in its metadata; it must be text.")
    if given is not None and inherited is not None and given != inherited:
        raise ValueError(
            f"data_origin={given!r} contradicts {path}, which has {inherited!r}; omit data_origin "
            "or use the right manifest."
        )
    return given or inherited
