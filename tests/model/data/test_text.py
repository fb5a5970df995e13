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
    "a comment above": ("# by me, on Monday\n#\n\n# seed: 7\nx,z\n1.5,2\n2.5,-3\n", "utf-8-sig"),
    "comments of other programs": ("// by me\r\n// x,z\r\nx,z\r\n1.5,2\r\n2.5,-3\r\n", "utf-16"),
    "a comment with semicolons": (";; by me\n; x\nx,z\n1.5,2\n2.5,-3\n", "utf-8"),
    "a comment above semicolons": ("% by me, on Monday\nx;z\n1,5;2\n2,5;-3\n", "utf-8"),
    "a comment as wide as the table": ("# by me,\nx,z\n1.5,2\n2.5,-3\n", "utf-8"),
    "names in a comment, as NumPy writes": ("# by me\n# x,z\n1.5,2\n2.5,-3\n", "utf-8"),
    "semicolons, as a spreadsheet is told": ("sep=;\r\nx;z\r\n1,5;2\r\n2,5;-3\r\n", "utf-8-sig"),
    "an index without a name before semicolons": (";x;z\n7;1.5;2\n9;2.5;-3\n", "utf-8"),
    "an index called #": ("#,x,z\n7,1.5,2\n9,2.5,-3\n", "utf-8"),
    "tabs and commas": ("x\tz\n1,5\t2\n2,5\t-3\n", "utf-8"),
    "bars and commas": ("x|z\n1,5|2\n2,5|-3\n", "utf-8"),
    "blanks between": ("x z\n1.5 2\n2.5 -3\n", "utf-8"),
    "as NumPy writes": ("# x z\n1.500000000000000000e+00 2\n2.5 -3\n", "utf-8"),
    "a comma in a name beside tabs": ("x\tz\tx,z\n1.5\t2\t0\n2.5\t-3\t0\n", "utf-8"),
    "commas in names beside semicolons": ("x;z;to (x,z,x)\n1,5;2;0\n2,5;-3;0\n", "utf-8"),
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


@pytest.mark.parametrize("name", ["#x", "%x", "//x", "# x", "% x"])
def test_a_name_may_begin_as_a_comment_does(name: str, tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text(f"{name},z\n1,2\n3,4\n")
    frames = read_frames(tmp_path)
    assert (frames.schema.names, frames.notes) == ((name.replace("# ", "").replace("% ", ""), "z"), ())


def test_lines_that_are_passed_over_are_told(tmp_path: Path) -> None:
    for i in range(4):
        (tmp_path / f"{i}.csv").write_text(f"{'# by me' if i else ''}\nx,z\n1,2\n")
    assert read_frames(tmp_path).notes[:1] == (
        "1.csv begins with '# by me', as do 2 other files: lines above the names of columns are not read",
    )


def test_a_game_is_told_by_a_column_that_a_comment_names(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("# episode,x\n007,1\n7,2\n")
    assert read_frames(tmp_path).episode.tolist() == [0, 1]


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
        ("# by me\n0.5,1\n2,3\n", r"begins with numbers \(0.5, 1\)"),
        ("# x,y,z\n0.5,1\n2,3\n", r"begins with numbers \(0.5, 1\)"),
        ("by me\nx,z\n1,2\n", "got 2: x,z.; its first line must name the columns .* take away lines of remarks"),
        ("x,z\n1,2\n# end\n", "got 1: # end.; .* take away lines of remarks, or record it again if it is damaged"),
        ("x,z\nm,s\n1,2\n", "other rows numbers: take the row away if it holds units, or write nothing where"),
        ("x,z\n(m),(s)\n1,2\n", "'x' is string, not numbers"),
        ("x,z\n5%,1\n", "'x' is string, not numbers"),
        (
            "x,z\n1,1\n,2\n-,3\n",
            r"numbers; 'x' holds '-' in row 2, and other rows numbers: write nothing where a number is missing; pick",
        ),
        ("x,z\nm,s\n1,2\n", r"not numbers, nor is 'z'; 'x' holds 'm' in row 0, and other rows numbers"),
        ("x,z\nleft,1\nright,2\n", r"not numbers; 'x' holds 'left' in row 0; pick"),
        ('x,z\n"1,5","2,5"\n', r"nor is 'z'; 'x' holds '1,5' in row 0: write numbers as in -1234\.5, with nothing"),
        ("x\tz\n1,234\t1\n2,345\t2\n", r"'x' holds '1,234' in row 0: write numbers as in -1234\.5"),
        ("x;z\n1.234;0,5\n2.345;1,5\n", r"'z' holds '0,5' in row 0: write numbers as in -1234\.5"),
        ("x\n1\n\u22122\n", r"'x' holds '\u22122' in row 1: write numbers as in -1234\.5"),
        ("x,z\n1,2\nx,z\n3,4\n", r"'x' holds 'x' in row 1, which is its name: take lines away that name the columns"),
        ("x,z\n[1. 2.],1\n[3. 4.],1\n", r"'x' holds '\[1. 2.\]' in row 0: save each number of a list as a column"),
        ("x  z\n1  2\n3  4\n", r"'x  z' holds '1  2' in row 0: blanks stand between what seem to be several columns"),
        ("x,z\nPK\x03\x04\0\0,1\n", r"g\.csv holds zero bytes, so it is no text in UTF-8, .*save it as CSV in UTF-8"),
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


BEYOND = 2**63
# What stands in a column that tells games apart, and the games of its rows.
IDS = {
    "zeros in front": (["007", "7", "007", "0"], [0, 1, 0, 2]),
    "as many digits each": (["007", "000", "007", "001"], [7, 0, 7, 1]),
    "more digits than int64 has": ([f"{BEYOND}", f"{BEYOND + 1}", f"{BEYOND}", "5"], [0, 1, 0, 2]),
    "more digits than float64 has": ([f"{2**62 + 1}", f"{2**62}", f"{2**62}", "5"], [2**62 + 1, 2**62, 2**62, 5]),
    "versions": (["1.1", "1.10", "1.1", "2"], [0, 1, 0, 2]),
    "fractions": (["0.5", "1.5", "0.5", "2.5"], [0, 1, 0, 2]),
    "signs": (["-1", "1", "-1", "2"], [-1, 1, -1, 2]),
    "blanks": (["1 ", " 2", "1", "2"], [1, 2, 1, 2]),
    "days": (["2026-01-02", "2026-01-03", "2026-01-02", "2026-01-04"], [0, 1, 0, 2]),
    "truths": (["true", "false", "true", "True"], [0, 1, 0, 2]),
}


@pytest.mark.parametrize("way", ["by name", "by --episode", "by schema.json"])
@pytest.mark.parametrize("ids", IDS)
def test_what_tells_games_apart_is_the_text_of_it(ids: str, way: str, tmp_path: Path) -> None:
    texts, games = IDS[ids]
    name = "episode" if way == "by name" else "level"
    lines = [f"{text},{frame},{frame / 2}\n" for frame, text in enumerate(texts)]
    (tmp_path / "g.csv").write_text(f"{name},frame,x\n" + "".join(lines))
    if way == "by schema.json":
        (tmp_path / "schema.json").write_text('{"episode": "level"}')
    frames = read_frames(tmp_path / "g.csv", episode="level" if way == "by --episode" else None)
    assert frames.episode.tolist() == games
    assert [frames.called(game) for game in games] == [text.strip() for text in texts] or not frames.episode_names


def test_a_game_without_a_name_is_refused_whatever_is_written_for_nothing(tmp_path: Path) -> None:
    for nothing in ("", "NA", "null", "NaN", "nan"):
        (tmp_path / "g.csv").write_text(f"episode,x\n1,2\n{nothing},3\n")
        with pytest.raises(ValueError, match="'episode' has nothing in 1 rows, first in row 1"):
            read_frames(tmp_path / "g.csv")


@pytest.mark.parametrize("nothing", ["", "NA", "N/A", "null", "NULL", "NaN", "nan", "None", "<NA>"])
def test_nothing_is_nothing_however_it_is_written(nothing: str, tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text(f"x,z\n1,2\n{nothing},3\n3,4\n")
    frames = read_frames(tmp_path, missing="mean")
    assert frames.features[:].tolist() == [[1, 2], [2, 3], [3, 4]]
    with pytest.raises(ValueError, match=r"x is nan in row 1; .* --missing hide, drop or mean"):
        read_frames(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32"])
def test_wide_text_that_does_not_begin_with_its_mark_is_named(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_bytes("x,z\n1,2\n".encode(encoding))
    with pytest.raises(ValueError, match=r"g\.csv holds zero bytes, .*save it as CSV in UTF-8"):
        read_frames(tmp_path)


@pytest.mark.parametrize("text", ["größe,z\n1,2\n", "episode,z\nÄ,2\n"])
def test_text_in_another_encoding_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"g\.csv holds text that is neither UTF-8 nor UTF-16; save it as UTF-8"):
        read_frames(tmp_path)
