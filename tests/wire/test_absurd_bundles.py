"""Bundles with absurd sizes, put before a running service that has limits on its memory and on its time."""

import io
import json
import os
import random
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
from numpy.lib import format as npy
from onnx import TensorProto

from tests.conftest import Survived
from tests.support.bundles import TinyModel, write_manifest
from tests.support.changes import reasons, served, until
from tests.support.endless import put_endless_loop
from tests.support.fuzz import ROUNDS
from tests.support.load import Load
from tests.support.serving import Server

BUNDLES = 30 * ROUNDS
# What a process may take at most beyond what it took before the first of them.
MAX_GROWTH_BYTES = 3 * 2**26
ABSURD = (0, 1, 1025, 2**16, 2**24, 2**31 - 1, 2**31, 2**40, 2**53, 2**63 - 1, 10**30)
LARGE = "x" * 2**20
ZEROS = bytes(2**24)

Spoil = Callable[[Path, random.Random], None]


def edited(folder: Path, edit: Callable[[dict[str, object]], object]) -> None:
    about = json.loads((folder / "bundle.json").read_text())
    edit(about)
    (folder / "bundle.json").write_text(json.dumps(about))


def absurd_number(folder: Path, chance: random.Random) -> None:
    key, number = chance.choice(("input_dim", "embed_dim", "version", "format")), chance.choice(ABSURD[2:])
    edited(folder, lambda about: about.update({key: number}))


def absurd_size(folder: Path, chance: random.Random) -> None:
    def edit(about: dict[str, object]) -> None:
        files = about["files"]
        assert isinstance(files, dict)
        files[chance.choice([*files])]["bytes"] = chance.choice(ABSURD[2:])

    edited(folder, edit)


def sparse_file(folder: Path, chance: random.Random) -> None:
    """It says that it has gigabytes, and takes no room on the disk."""
    os.truncate(folder / chance.choice(os.listdir(folder)), chance.choice((2**26, 2**31, 2**40)))


def long_list(folder: Path, chance: random.Random) -> None:
    key = chance.choice(
        ("patches", "horizons", "options", "statistics", "history", "loss_quantiles", "schema", "files")
    )
    item: object = chance.choice(([], {}, "x", 1, None, "a" * 100))
    edited(folder, lambda about: about.update({key: [item] * chance.choice((10_000, 200_000))}))


def many_keys(folder: Path, chance: random.Random) -> None:
    key = chance.choice(("options", "statistics", "history", "loss_quantiles", "precision", "files", "data"))
    value: object = chance.choice(([], {}, "x", 1, None))
    edited(folder, lambda about: about.update({key: {str(i): value for i in range(chance.choice((2000, 100_000)))}}))


def long_text(folder: Path, chance: random.Random) -> None:
    key = chance.choice(("name", "created", "schema_hash", "licence", "training", "data", "something"))
    value = LARGE * chance.choice((1, 9))
    edited(folder, lambda about: about.update({key: {"x": value} if chance.random() < 0.5 else value}))


def deep(folder: Path, chance: random.Random) -> None:
    depth = chance.choice((900, 100_000))
    (folder / "bundle.json").write_text('{"format": 1, "options": ' + "[" * depth + "]" * depth + "}")


def absurd_array(folder: Path, chance: random.Random) -> None:
    """In golden.npz: an array that promises any shape and holds any number of zeros, packed."""
    arrays = dict(np.load(folder / "golden.npz"))
    spoilt = chance.choice([*arrays])
    shape = tuple(chance.choice(ABSURD) for _ in range(chance.choice((1, 2, 2, 3))))
    with zipfile.ZipFile(
        folder / "golden.npz", "w", chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    ) as archive:
        for name, array in arrays.items():
            stream = io.BytesIO()
            if name == spoilt:
                kind = chance.choice(("<f4", "<f8", "|u1", "<f2", "|O", "<U99999"))
                npy.write_array_header_1_0(stream, {"descr": kind, "fortran_order": False, "shape": shape})
                stream.write(ZEROS[: chance.choice((0, 200, len(ZEROS)))])
            else:
                np.save(stream, array)
            archive.writestr(f"{name}.npy", stream.getvalue())
    edited_files(folder)


def lying_archive(folder: Path, chance: random.Random) -> None:
    """golden.npz with any number in the place of another: sizes of entries, of the directory, counts."""
    content = bytearray((folder / "golden.npz").read_bytes())
    at = content.find(b"PK\1\2")
    for _ in range(chance.choice((1, 3))):
        struct.pack_into("<I", content, chance.randrange(at, len(content) - 4), chance.choice(ABSURD[:6]) & 0xFFFFFFFF)
    (folder / "golden.npz").write_bytes(content)
    edited_files(folder)


def absurd_tensor(folder: Path, chance: random.Random) -> None:
    """A graph one of whose tensors promises any shape."""
    path = folder / chance.choice(("context_encoder.onnx", "target_encoder.onnx", "predictor.onnx"))
    model = onnx.load(path)
    tensor = chance.choice(model.graph.initializer)
    tensor.dims[:] = [chance.choice(ABSURD[:-1]) for _ in range(chance.choice((1, 2, 4)))]
    if chance.random() < 0.3:
        tensor.data_location = TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", chance.choice(("/dev/zero", "../x", "golden.npz"))
    path.write_bytes(model.SerializeToString())
    edited_files(folder)


def half_a_graph(folder: Path, chance: random.Random) -> None:
    path = folder / "target_encoder.onnx"
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(len(content))])
    edited_files(folder)


def no_regular_file(folder: Path, chance: random.Random) -> None:
    path = folder / chance.choice(os.listdir(folder))
    path.unlink()
    match chance.randrange(4):
        case 0:
            os.mkfifo(path)
        case 1:
            path.symlink_to("/dev/zero")
        case 2:
            path.mkdir()
        case _:
            path.symlink_to(path.name)


def endless(folder: Path, chance: random.Random) -> None:
    put_endless_loop(folder, chance.choice(("context_encoder", "target_encoder", "predictor")))


def edited_files(folder: Path) -> None:
    """Sizes and hashes are right, so that what lies is looked at."""
    about = json.loads((folder / "bundle.json").read_text())
    write_manifest(folder, {key: value for key, value in about.items() if key != "files"})


SPOILS: tuple[Spoil, ...] = (
    *(absurd_number, absurd_size, sparse_file, long_list, many_keys, long_text, deep),
    *(absurd_array, lying_archive, absurd_tensor, half_a_graph, no_regular_file, endless),
)


def peak_bytes(server: Server) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.timeout(60 + 60 * ROUNDS)
def test_whatever_a_bundle_promises_it_takes_little_memory_and_holds_nothing_up(
    tmp_path: Path, survived: Survived, record_property: Callable[[str, object], None]
) -> None:
    models, staged, chance = tmp_path / "models", tmp_path / "staged", random.Random(ROUNDS)
    TinyModel().write(models)
    flags = ("--models", str(models), "--workers", "1", "--watch-s", "0.02", "--load-timeout-s", "1")
    with Server(*flags) as server, Load(server, 4) as load:
        before, grown, refusals = peak_bytes(server), 0, 0
        for number in range(2, BUNDLES + 2):
            folder = TinyModel(version=number).write(staged)
            spoil = SPOILS[number % len(SPOILS)]
            spoil(folder, chance)
            folder.rename(models / "tiny" / str(number))
            name = f"tiny/{number}"

            def is_decided(name: str = name, number: int = number) -> bool:
                return name in reasons(server) or served(server, count=1) == {number}

            until(is_decided)
            refusals += name in reasons(server)
            grown = peak_bytes(server) - before
            assert grown < MAX_GROWTH_BYTES, spoil.__name__
        assert refusals > BUNDLES / 2
        assert max(map(len, reasons(server).values())) <= 1000
        TinyModel(version=BUNDLES + 2).write(models)
        until(lambda: served(server, count=1) == {BUNDLES + 2})
        assert httpx.get(f"{server.url}/readyz").text == "ok\n"
        load.go_on()
        assert server.stop() == 0
    assert load.refused.keys() <= {503}
    assert load.lost == 0
    survived(f"{BUNDLES} bundles with absurd sizes", load, note=f"at most {grown // 2**20} MiB more memory")
    record_property("bad inputs", BUNDLES)
