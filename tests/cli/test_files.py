import pytest

from cli.files import replacing


def test_the_file_is_replaced_once_the_block_ends(tmp_path):
    out = tmp_path / "table.json"
    out.write_text("old")
    with replacing(out) as partial:
        partial.write_text("new")
        assert out.read_text() == "old"
    assert out.read_text() == "new"
    assert [*tmp_path.iterdir()] == [out]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_after_an_error_the_old_file_is_left_alone(tmp_path, error):
    out = tmp_path / "table.json"
    out.write_text("old")

    def write_half() -> None:
        with replacing(out) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert out.read_text() == "old"
    assert [*tmp_path.iterdir()] == [out]


def test_the_temporary_file_has_the_suffix_by_which_libraries_choose_a_format(tmp_path):
    with replacing(tmp_path / "rows.npy") as partial:
        assert partial.suffix == ".npy"
        partial.touch()
