"""How wide the interval of an AUC is with few lenses or non-lenses."""

from __future__ import annotations

from dhs.statistics.auc import score_interval

AREA = 0.9
TAIL = 0.025


def few_for_auc(lenses: int, negatives: int) -> str | None:
    """Return how wide the interval of an AUC of 0.9 is, if there are few objects; else None.

    Parameters
    ----------
    lenses, negatives : int
        Numbers of objects, at least 1.

    Returns
    -------
    str or None
        A phrase such as ``an AUC of 0.9 has the 95 % interval 0.78 to 0.95``.
    """
    low, high = score_interval(AREA, lenses, negatives, TAIL)
    # Few: the interval includes half or twice as many misranked pairs, so that a network that
    # errs half as often cannot be told apart. A higher AUC needs more objects.
    if low > 1 - 2 * (1 - AREA) and high < 1 - (1 - AREA) / 2:
        return None
    return f"an AUC of {AREA:g} has the 95 % interval {low:.2f} to {high:.2f}"
