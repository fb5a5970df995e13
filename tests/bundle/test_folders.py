from pathlib import Path

import pytest

from bundle.folders import (
    MAX_VERSION,
    BundleError,
    check_name,
    locate,
    misnamed_versions,
    next_version,
    subfolders,
    version_of,
    versions,
)


@pytest.mark.parametrize("name", ["melee", "Melee-2", "0_a"])
def test_names_are_letters_digits_and_hyphens(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["", "-a", "_a", "a.b", "../up", "a/b", "a b", "é", "a\n"])
def test_a_name_that_is_no_folder_or_no_part_of_a_url_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="use letters, digits, - and _, starting with a letter or digit"):
        check_name(name)


def test_only_positive_integers_are_versions(tmp_path: Path) -> None:
    for name in ("1", "2", "10", "0", "-1", "01", "x", ".tmp-3", "1.5", "²"):
        (tmp_path / name).mkdir()
    (tmp_path / "3").touch()
    assert [*versions(tmp_path)] == [10, 2, 1]


def test_a_bundle_is_found_by_version_folder_model_folder_or_the_word_default(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models / "tiny"
    monkeypatch.setattr("bundle.folders.DEFAULT_MODEL", model)
    assert locate(str(model / "1")) == model / "1"
    assert locate(str(model)) == model / "1"
    assert locate("default") == model / "1"
    with pytest.raises(BundleError, match="is not a folder"):
        locate(str(tmp_path / "nowhere"))
    with pytest.raises(BundleError, match=r"is no bundle: it holds neither bundle\.json nor folders named 1, 2"):
        locate(str(tmp_path))


def test_the_next_version_is_one_more_than_the_highest_that_counts_as_one(tmp_path: Path) -> None:
    assert next_version(tmp_path, "melee") == 1
    for name in ("2", "10", "011", "x", ".tmp-3"):
        (tmp_path / "melee" / name).mkdir(parents=True)
    (tmp_path / "melee" / "12").touch()
    assert next_version(tmp_path, "melee") == 11


NO_VERSIONS = ("0", "-1", "+1", "01", "9007199254740992", "9999999999999999999999", "١٢", "１２", "1" * 200)


@pytest.mark.parametrize("name", [*NO_VERSIONS, "", "1.5", "1 ", "1\n", "1e3", "0x1", "9" * 5000])
def test_a_version_is_written_in_one_way(name: str) -> None:
    assert version_of(name) is None


def test_a_version_is_as_large_as_every_reader_of_json_can_tell_from_the_next(tmp_path: Path) -> None:
    assert version_of(str(MAX_VERSION)) == MAX_VERSION == 9007199254740991
    (tmp_path / str(MAX_VERSION)).mkdir()
    assert [*versions(tmp_path)] == [MAX_VERSION]


def test_folders_that_were_meant_to_be_versions_are_known_as_such(tmp_path: Path) -> None:
    for name in (*NO_VERSIONS, "1", "x", ".tmp-3", "²", "v2", "1.0", "best"):
        (tmp_path / name).mkdir()
    for name in ("v2", "1.0", "best", ".tmp-3"):
        (tmp_path / name / "bundle.json").touch()
    (tmp_path / "007").touch()
    (tmp_path / "latest").symlink_to("1")
    found = {folder.name for folder in misnamed_versions(subfolders(tmp_path).found)}
    assert found == {*NO_VERSIONS, "v2", "1.0", "best"}


def test_an_entry_that_cannot_be_looked_at_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    found, unreadable = subfolders(tmp_path)
    assert [folder.name for folder in found] == ["1"]
    reasons = {path.name: reason for path, reason in unreadable.items()}
    assert reasons == {"gone": "it is a link to nothing", "loop": "Too many levels of symbolic links"}
