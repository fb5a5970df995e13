"""Text files as spreadsheets, databases and scripts write them."""

from pathlib import Path

import pytest

from model.data.frames import read_frames

ROWS = [[1.5, 2], [2.5, -3]]
# What is written, in which encoding; all hold the columns x and z of ROWS.
SPELLINGS = {
    "plain": ("x,z\n1.5,2\n2.5,-3\n", "utf-8"),
    "a mark of the byte order": ("x,z\n1.5,2\n2.5,-3\n", "utf-8-sig"),
    "UTF-16": ("x,z\n1.5,2\n2.5,-3\n", "utf-16"),
    "lines of Windows": ("x,z\r\n1.5,2\r\n2.5,-3\r\n", "utf-8"),
    "lines of old Macs": ("x,z\r1.5,2\r2.5,-3\r", "utf-8"),
    "no last line break": ("x,z\n1.5,2\n2.5,-3", "utf-8"),
    "empty lines": ("\nx,z\n1.5,2\n\n2.5,-3\n\n\n", "utf-8"),
    "quoted names": ('"x","z"\n1.5,2\n2.5,-3\n', "utf-8"),
    "quoted numbers": ('x,z\n"1.5","2"\n"2.5","-3"\n', "utf-8"),
    "blanks": ("x, z\n1.5, 2\n2.5, -3\n", "utf-8"),
    "semicolons": ("x;z\n1.5;2\n2.5;-3\n", "utf-8"),
    "semicolons and commas": ("x;z\n1,5;2\n2,5;-3\n", "utf-8"),
    "tabs": ("x\tz\n1.5\t2\n2.5\t-3\n", "utf-8"),
    "bars": ("x|z\n1.5|2\n2.5|-3\n", "utf-8"),
    "powers of ten": ("x,z\n15e-1,2\n.25e1,-3\n", "utf-8"),
    "an index without a name": (",x,z\n7,1.5,2\n9,2.5,-3\n", "utf-8"),
    "an index called Unnamed: 0": ("Unnamed: 0,x,z\n7,1.5,2\n9,2.5,-3\n", "utf-8"),
    "an index behind": ("x,z,Unnamed: 2\n1.5,2,\n2.5,-3,\n", "utf-8"),
    "a comma behind": ("x,z,\n1.5,2,\n2.5,-3,\n", "utf-8"),
    "text with commas beside semicolons": ('"who, where";x;z\n"a, 1,2";1.5;2\n"b";2.5;-3\n', "utf-8"),
}  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_text_is_read_however_it_is_spelt(spelling: str, tmp_path: Path) -> None:
    text, encoding = SPELLINGS[spelling]
    (tmp_path / "g.csv").write_bytes(text.encode(encoding))
    frames = read_frames(tmp_path, features=["x", "z"])
    assert frames.features[:].tolist() == ROWS


def test_a_comma_in_a_number_far_down_is_seen(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("x;z\n" + "1;2\n" * 30_000 + "1,5;2\n")
    assert read_frames(tmp_path).features[-1].tolist() == [1.5, 2]


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_names_may_hold_any_delimiter_in_quotation_marks(delimiter: str, tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text(f'"a,b"{delimiter}"c"\n1{delimiter}2\n3{delimiter}4\n')
    assert read_frames(tmp_path).schema.names == ("a,b", "c")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.5,1\n2,3\n", r"begins with numbers \(0.5, 1\)"),
        ("a,0.5,1\nb,2,3\n", r"begins with numbers \(a, 0.5, 1\)"),
        ("x,z\n1,2\n3\n", "Expected 2 columns, got 1"),
        ("x,z\n(m),(s)\n1,2\n", "'x' is string, not numbers"),
        ("x,z\n5%,1\n", "'x' is string, not numbers"),
        ("x;z\n1.000,5;1\n2;3\n", "'x' is string, not numbers"),
        ("at,x\n2024-01-01 00:00:00,1\n", r"'at' is timestamp\[s\], not numbers"),
        ("episode,x\nNA,1\nb,2\n", "'episode' has nothing in 1 rows"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:a\n", "fetch it with: git lfs pull"),
    ],
)
def test_what_would_be_guessed_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_frames(tmp_path)


@pytest.mark.parametrize("name", ["g.parquet", "g.csv", "g.csv.gz", "g.arrow", "g.npz", "g.npy", "g"])
def test_a_file_that_git_lfs_has_not_fetched_is_named_as_such(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:a\nsize 5\n")
    with pytest.raises(ValueError, match="only says where Git LFS keeps the file; fetch it with: git lfs pull"):
        read_frames(tmp_path / name)


def test_a_file_whose_name_says_nothing_is_told_what_names_say(tmp_path: Path) -> None:
    (tmp_path / "g.txt").write_text("x,z\n1,2\n")
    with pytest.raises(ValueError, match=r"its name ends in nothing else that is known \(\.parquet, .*rename it"):
        read_frames(tmp_path / "g.txt")
