import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from bundle.folders import next_version
from bundle.writer import BundleWriter


def manifest_of(folder):
    return json.loads((folder / "bundle.json").read_text())


def test_a_bundle_appears_whole_with_the_sha256_of_each_file(tmp_path):
    with BundleWriter(tmp_path, "melee") as bundle:
        bundle.describe(input_dim=3)
        (bundle.path / "a.onnx").write_bytes(b"weights")
        assert next_version(tmp_path, "melee") == 1, "a half-written bundle has no version yet"
    assert bundle.folder == tmp_path / "melee" / "1"
    about = manifest_of(bundle.folder)
    assert about["name"] == "melee"
    assert about["version"] == 1
    assert about["input_dim"] == 3
    assert about["files"] == {"a.onnx": {"sha256": hashlib.sha256(b"weights").hexdigest(), "bytes": 7}}
    assert next_version(tmp_path, "melee") == 2


def test_what_is_described_last_counts(tmp_path):
    with BundleWriter(tmp_path, "melee") as bundle:
        bundle.describe(licence="", horizons=[6])
        bundle.describe(licence="CC0")
    assert manifest_of(bundle.folder).items() >= {"licence": "CC0", "horizons": [6]}.items()


def test_a_failure_leaves_the_models_as_they_were(tmp_path):
    def fail():
        with BundleWriter(tmp_path, "melee") as bundle:
            (bundle.path / "a.onnx").write_bytes(b"weights")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert list((tmp_path / "melee").iterdir()) == []


def test_a_description_that_is_no_json_leaves_the_models_as_they_were(tmp_path):
    def fail():
        with BundleWriter(tmp_path, "melee") as bundle:
            bundle.describe(loss=float("nan"))

    with pytest.raises(ValueError, match="not JSON compliant"):
        fail()
    assert list((tmp_path / "melee").iterdir()) == []


def test_a_name_that_no_bundle_can_have_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"name is '\.\./up'; use letters"):
        BundleWriter(tmp_path, "../up")
    assert list(tmp_path.iterdir()) == []


def test_of_two_that_write_at_the_same_time_each_knows_its_own_folder(tmp_path):
    with BundleWriter(tmp_path, "melee") as first:
        with BundleWriter(tmp_path, "melee") as second:
            second.describe(by="second")
        first.describe(by="first")
        with BundleWriter(tmp_path, "other") as other:
            other.describe(by="other")
    assert (second.folder.name, first.folder.name, other.folder.name) == ("1", "2", "1")
    for bundle, by in ((first, "first"), (second, "second"), (other, "other")):
        assert manifest_of(bundle.folder)["by"] == by


def test_of_many_that_finish_at_the_same_moment_each_has_a_version_of_its_own(tmp_path):
    writers = 8
    ready = Barrier(writers)

    def write(number):
        with BundleWriter(tmp_path, "melee") as bundle:
            bundle.describe(by=number)
            (bundle.path / "a.onnx").write_bytes(b"weights")
            ready.wait()
        return bundle.folder

    with ThreadPoolExecutor(writers) as pool:
        folders = list(pool.map(write, range(writers)))
    assert {folder.name for folder in folders} == {str(version) for version in range(1, writers + 1)}
    for number, folder in enumerate(folders):
        assert manifest_of(folder).items() >= {"by": number, "version": int(folder.name)}.items()
    assert {path.name for path in (tmp_path / "melee").iterdir()} == {folder.name for folder in folders}


def test_a_version_that_was_taken_since_it_was_looked_up_is_passed_over(tmp_path):
    # A plain file named like a version counts as none, so the writer only meets it when it renames.
    (tmp_path / "melee").mkdir()
    (tmp_path / "melee" / "1").write_text("in the way")
    with BundleWriter(tmp_path, "melee") as bundle:
        pass
    assert bundle.folder.name == "2"
    assert manifest_of(bundle.folder)["version"] == 2
    assert (tmp_path / "melee" / "1").read_text() == "in the way"
