"""Where graphs run. No GPU is needed: what a GPU would do is said by `runs_on`, and tried where there is one."""

from pathlib import Path

import onnxruntime as ort
import pytest
from pydantic import ValidationError

from app.inference.devices import CUDA, ONE_NODE, NoDevice, choose
from app.inference.parallelism import plan
from app.inference.sessions import Graphs
from app.repository import precision, selfcheck
from app.settings import Settings
from bundle.folders import BundleError
from bundle.reader import read_bundle
from tests.cli.test_serve import jepa
from tests.support.bundles import TinyModel
from tests.support.serving import Server

HAS_PROVIDER = CUDA in ort.get_available_providers()
without_gpu = pytest.mark.skipif(HAS_PROVIDER, reason="onnxruntime-gpu is installed")


def has_gpu() -> bool:
    try:
        return choose("cuda", 1) == "cuda"
    except NoDevice:
        return False


with_gpu = pytest.mark.skipif(not has_gpu(), reason="needs an NVIDIA GPU and onnxruntime-gpu")


def test_the_graph_that_is_opened_to_see_whether_a_gpu_works_is_one() -> None:
    session = ort.InferenceSession(ONE_NODE, providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": [1.5]})[0].tolist() == [-1.5]


@without_gpu
def test_without_the_provider_auto_is_the_cpu_and_cuda_is_refused_with_what_to_install() -> None:
    assert choose("auto", 0) == choose("auto", 1) == choose("cpu", 1) == "cpu"
    with pytest.raises(NoDevice) as refused:
        choose("cuda", 1)
    assert f"onnxruntime {ort.__version__} has no provider for CUDA" in str(refused.value)
    assert "pip install 'onnxruntime-gpu[cuda,cudnn]'" in str(refused.value)


@without_gpu
def test_a_provider_that_cannot_open_a_graph_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where onnxruntime-gpu is installed on a machine without a GPU."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
    assert choose("auto", 1) == "cpu"
    with pytest.raises(NoDevice, match="has the provider for CUDA, but no GPU, driver, CUDA or cuDNN"):
        choose("cuda", 1)


@without_gpu
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_bundle_is_not_served_on_the_cpu_by_mistake(models: Path) -> None:
    with pytest.raises(BundleError, match=r"target_encoder\.onnx|context_encoder\.onnx cannot be opened on the GPU"):
        Graphs(read_bundle(models / "tiny" / "1"), device="cuda")


@without_gpu
def test_the_service_stops_with_one_sentence(models: Path) -> None:
    done = jepa("serve", "--models", str(models), "--port", "0", "--device", "cuda")
    assert done.returncode == 1
    assert done.stderr.startswith("jepa serve: device cuda cannot be used: onnxruntime ")
    assert done.stderr.count("\n") == 1


def test_a_gpu_has_one_process_that_runs_one_batch_and_gathers_the_next() -> None:
    settings = Settings(workers=0, intra_op_threads=2)
    layout = plan(settings, cores=16, row_s=1e-4, may_fork=True, device="cuda")
    assert (layout.processes, layout.batch_threads) == (1, 2)
    assert plan(Settings(batch_threads=5), cores=16, row_s=1, may_fork=True, device="cuda").batch_threads == 5
    with pytest.raises(ValidationError, match="workers 2 cannot share a GPU, which does not survive their fork"):
        Settings(device="cuda", workers=2)
    assert choose("auto", 2) == "cpu"


@with_gpu
def test_a_bundle_on_the_gpu_passes_the_parity_check_and_answers(tmp_path: Path) -> None:
    tiny = TinyModel(int8_steps=127)
    bundle = read_bundle(tiny.write(tmp_path))
    chosen = precision.choose(bundle, "auto", 1, "cuda")
    assert (chosen.precision, chosen.reason) == ("float32", "on the GPU int8 is no faster")
    assert all(each.holds for each in selfcheck.compare(bundle, chosen.graphs, "float32"))
    with Server("--models", str(tmp_path), "--device", "cuda") as server:
        assert "graphs run on the GPU" in server.log
        assert server.stop() == 0
