import hashlib
import json

import pytest

from bundle.folders import next_version
from bundle.writer import writing_bundle


def test_a_bundle_appears_whole_with_the_sha256_of_each_file(tmp_path):
    with writing_bundle(tmp_path, "melee", {"input_dim": 3}) as folder:
        (folder / "a.onnx").write_bytes(b"weights")
        assert next_version(tmp_path, "melee") == 1, "a half-written bundle has no version yet"
    about = json.loads((tmp_path / "melee" / "1" / "bundle.json").read_text())
    assert about["name"] == "melee"
    assert about["version"] == 1
    assert about["input_dim"] == 3
    assert about["files"] == {"a.onnx": {"sha256": hashlib.sha256(b"weights").hexdigest(), "bytes": 7}}
    assert next_version(tmp_path, "melee") == 2


def test_a_failure_leaves_the_models_as_they_were(tmp_path):
    def fail():
        with writing_bundle(tmp_path, "melee", {}) as folder:
            (folder / "a.onnx").write_bytes(b"weights")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert list((tmp_path / "melee").iterdir()) == []
