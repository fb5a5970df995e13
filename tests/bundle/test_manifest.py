import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundle.folders import BundleError
from bundle.manifest import read_manifest
from bundle.schema import Group, Schema, schema_hash
from tests.support.memory import peak_bytes


def change(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    document = json.loads((folder / "bundle.json").read_text())
    edit(document)
    (folder / "bundle.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda d: d.update(format=2), "has format 2; this program reads format 1"),
        (lambda d: d.pop("format"), "has format None; this program reads format 1"),
        (lambda d: d.pop("input_dim"), "input_dim Field required"),
        (lambda d: d.update(input_dim=11), "schema names 10 columns, but input_dim is 11"),
        (lambda d: d.update(version=0), "version Input should be greater than or equal to 1"),
        (lambda d: d.update(name="../up"), "name String should match pattern"),
        (lambda d: d.update(name="up\n"), "name String should match pattern"),
        (lambda d: d.update(horizons=[]), "horizons List should have at least 1 item"),
        (lambda d: d["schema"]["groups"].pop(), "schema groups must cut the columns 0 … 10 into consecutive parts"),
        (lambda d: d["schema"]["groups"].reverse(), "schema groups must cut the columns"),
        (lambda d: d["schema"]["groups"][0].pop("stop"), "schema groups has {'name': 'own', 'start': 0}; a group is"),
        (lambda d: d["schema"].update(groups=None), "schema must hold names, a list of strings, and groups, a list"),
        (lambda d: d["schema"]["names"].__setitem__(0, 1), "schema must hold names, a list of strings"),
        (lambda d: d["schema"]["names"].__setitem__(0, "own_1"), "schema names has ['own_1'] more than once"),
        (lambda d: d["patches"].pop(), "patches must hold every group of the schema exactly once"),
        (lambda d: d["loss_quantiles"].update({"6": [0.0]}), "loss_quantiles.6 List should have at least 101 items"),
        (lambda d: d["files"].pop("golden.npz"), "files lacks golden.npz"),
        (lambda d: d.update(actions=["jump"]), "actions names 1 numbers and max_actions is 0; a predictor takes both"),
        (lambda d: d.update(max_actions=24), "actions names 0 numbers and max_actions is 24"),
        (lambda d: d.update(actions=["jump", "jump"], max_actions=24), "actions repeat a name"),
        (
            lambda d: d.update(actions=["jump"], max_actions=24, action_values={"run": [0, 1]}),
            "action_values has 'run', which actions does not name",
        ),
        (lambda d: d["schema"]["names"].reverse(), "the schema hashes to"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(
    folder: Path, edit: Callable[[dict[str, Any]], Any], complaint: str
) -> None:
    change(folder, edit)
    with pytest.raises(BundleError) as refusal:
        read_manifest(folder)
    assert complaint in str(refusal.value)
    assert str(folder) in str(refusal.value)
    assert "Value error" not in str(refusal.value)


def test_the_schema_is_the_one_that_training_wrote(folder: Path) -> None:
    schema = read_manifest(folder).feature_schema
    assert isinstance(schema, Schema)
    assert schema.groups == (Group("own", 0, 3), Group("opponent", 3, 8), Group("stage", 8, 10))
    assert schema.hash == read_manifest(folder).schema_hash


def test_keys_of_a_later_program_are_ignored(folder: Path) -> None:
    change(folder, lambda d: d.update(something_new={"a": 1}))
    read_manifest(folder)


def test_keys_that_a_later_program_adds_to_the_schema_count_for_its_hash_alone(folder: Path) -> None:
    before = read_manifest(folder).feature_schema

    def add(document: dict[str, Any]) -> None:
        document["schema"]["units"] = ["m"] * 10
        document["schema"]["groups"][0]["colour"] = "red"
        document["schema_hash"] = schema_hash(document["schema"])

    change(folder, add)
    assert read_manifest(folder).feature_schema == before


@pytest.mark.parametrize("text", ["", "{", "[]", "\0", "[" * 10**5, '{"x": NaN}', '{"x": 1e999}', r'{"x": "\ud800"}'])
def test_a_manifest_that_is_half_written_or_no_json_is_refused(folder: Path, text: str) -> None:
    (folder / "bundle.json").write_text(text)
    with pytest.raises(BundleError, match=r"bundle\.json"):
        read_manifest(folder)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"has no bundle\.json; a bundle is a folder <models>/<name>/<version>/"):
        read_manifest(tmp_path)


MANY = 100_000


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda d: d.update(input_dim=2**17 + 1), "input_dim Input should be less than or equal to 131072"),
        (lambda d: d.update(embed_dim=10**15), "embed_dim Input should be less than or equal to 131072"),
        (lambda d: d.update(version=2**53), "version Input should be less than or equal to 9007199254740991"),
        (lambda d: d.update(patches=[1] * MANY), "patches.0 Input should be"),
        (lambda d: d["patches"][0].update(groups=[1] * MANY), "patches.0.groups.0 Input should be a valid string"),
        (lambda d: d.update(actions=["x"] * MANY, max_actions=1), "actions List should have at most 1000 items"),
        (lambda d: d.update(max_actions=1001), "max_actions Input should be less than or equal to 1000"),
        (
            lambda d: d.update(actions=[*map(str, range(1000))], max_actions=1000),
            "actions times max_actions is 1000000; it may be 131072",
        ),
        (lambda d: d.update(action_values={str(i): 1 for i in range(MANY)}), "action_values has 100000 keys"),
        (lambda d: d.update(horizons=["x"] * MANY), "horizons.0 Input should be a valid integer"),
        (lambda d: d.update(horizons=[*range(1001)]), "horizons List should have at most 1000 items"),
        (lambda d: d.update(history={"loss": ["x"] * MANY}), "history.loss.0 Input should be a valid number"),
        (lambda d: d.update(statistics={"mean": [None] * MANY}), "statistics.mean.0 Input should be a valid number"),
        (
            lambda d: d.update(statistics={str(i): 1 for i in range(MANY)}),
            "it may have 1000",
        ),
        (lambda d: d.update(history={str(i): 1 for i in range(MANY)}), "history has 100000 keys"),
        (lambda d: d.update(loss_quantiles={str(i): 1 for i in range(MANY)}), "loss_quantiles has 100000 keys"),
        (lambda d: d.update(precision={str(i): 1 for i in range(MANY)}), "precision has 100000 keys"),
        (lambda d: d["files"].update({str(i): 1 for i in range(MANY)}), "files has 100006 keys"),
        (lambda d: d["files"]["golden.npz"].update(bytes=-1), "files.golden.npz.bytes Input should be greater than"),
        (lambda d: d.update(training={"x": "a" * 2**18}), "take 262"),
        (lambda d: d.update(licence="a" * 2**18), "take 262"),
        (lambda d: d["schema"].update(names=["a"] * MANY), "schema names has ['a'] more than once"),
        (lambda d: d["schema"].update(names=[*map(str, range(MANY))] * 2), "'10', '100', '1000', '10000', '10001'"),
        (lambda d: d["schema"].update(groups=[["a", 0, 1]] * 20_000), "repeat a name"),
        (lambda d: d.update(unknown="a" * 2**23), "at most 8388608 are read"),
    ],
)
def test_what_is_absurdly_large_is_refused_in_few_words_and_little_memory(
    folder: Path, edit: Callable[[dict[str, Any]], Any], complaint: str
) -> None:
    change(folder, edit)

    def read() -> None:
        with pytest.raises(BundleError) as refusal:
            read_manifest(folder)
        assert complaint in str(refusal.value)
        assert len(str(refusal.value)) < 3000

    # Of a kilobyte for each finding it would be a hundred times as much.
    assert peak_bytes(read) < 2**27
