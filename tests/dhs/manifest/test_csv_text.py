"""CSV files of other programs: read where they are unambiguous, else said what was found."""

from __future__ import annotations

from pathlib import Path

import pytest

from dhs.manifest.table import read_table

ROWS = [
    {"cutout_path": "a.npz", "label": 1, "ra": 1.5, "note": "b, c; d"},
    {"cutout_path": "007", "label": 0, "ra": -2.0, "note": "x"},
]
HEADER = "cutout_path, label, ra, note"
PLAIN = 'cutout_path,label,ra,note\na.npz,1,1.5,"b, c; d"\n007,0,-2,x\n'
GOOD = {
    "plain": PLAIN,
    "spaces after commas": f'{HEADER}\na.npz, 1, 1.5, "b, c; d"\n007, 0, -2, x\n',
    "spaces in the rows": 'cutout_path,label,ra,note\na.npz , 1, 1.5, "b, c; d"\n007, 0, -2, x\n',
    "semicolons": 'cutout_path;label;ra;note\na.npz;1;1.5;"b, c; d"\n007;0;-2;x\n',
    "semicolons and spaces": 'cutout_path; label; ra; note\na.npz; 1; 1.5; "b, c; d"\n007; 0; -2;x',
    "tabs": "cutout_path\tlabel\tra\tnote\na.npz\t1\t1.5\tb, c; d\n007\t0\t-2\tx\n",
    "comments": f"# made by hand, in 2024\n#\n{PLAIN}",
    "lines of Windows": PLAIN.replace("\n", "\r\n"),
    "a byte order mark": f"\ufeff{PLAIN}",
    "a mark and a comment": f"\ufeff# comment\n{PLAIN}",
}


@pytest.mark.parametrize("name", GOOD)
def test_what_is_unambiguous(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(GOOD[name], "utf-8", newline="")
    assert read_table(path).to_pylist() == ROWS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cutout_path label\na.npz 1\n", "its columns are separated by spaces"),
        ("1.5,2\n3,4\n", "its first line, '1.5,2', has numbers instead of the names"),
        ("# ra,dec\n1.5,2\n", "Remove the # from the line before it, '# ra,dec'"),
        ('a, b\n1, "x\n', "damaged or not a .csv file"),
        ("a,b\n1,2\n# end\n", "Expected 2 columns, got 1: # end"),
    ],
)
def test_what_was_found(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text, "utf-8")
    with pytest.raises(ValueError, match=r"a\.csv") as caught:
        read_table(path)
    assert said in str(caught.value)
