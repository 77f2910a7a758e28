"""Differences between two configurations, in words that mean something to a reader."""

from __future__ import annotations

from dhs.config.errors import differences


def test_checksums_are_named_but_not_shown() -> None:
    data = {"fingerprint": "a" * 64, "validation_fingerprint": "b" * 64, "n_train": 3}
    other = {"fingerprint": "c" * 64, "validation_fingerprint": "d" * 64, "n_train": 4}
    assert differences({"data": data}, {"data": other}) == [
        "data changed",
        "data.n_train 3 against 4",
        "data.validation changed",
    ]
    assert differences({"hosts": "a" * 64}, {"hosts": None}) == ["hosts changed"]
    assert differences({"hosts": "a" * 64}, {"hosts": "a" * 64}) == []
    assert differences({"out_dir": "abc"}, {"out_dir": "abd"}) == ["out_dir abc against abd"]
