from pathlib import Path

import pytest
import torch

from model.training.devices import half_precision_pays, launch, mean_of_processes, threads_an_operation

ROOT = Path(__file__).parents[3]


def test_one_process_is_what_there_is_without_asking():
    fabric = launch()
    assert (fabric.world_size, fabric.global_rank, fabric.is_global_zero) == (1, 0, True)
    tensors = [torch.ones(2, 3), torch.zeros(4)]
    assert mean_of_processes(fabric, tensors) is tensors


@pytest.mark.parametrize(
    ("devices", "accelerator", "message"),
    [
        (0, "auto", "devices is 0; it must be at least 1"),
        (1, "tpu", "accelerator is 'tpu'; it must be one of auto, cpu, cuda, mps"),
    ],
)
def test_bad_options_are_refused(devices, accelerator, message):
    with pytest.raises(ValueError, match=message):
        launch(devices, accelerator)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"no 2 devices of accelerator 'cuda' here \(CUDA devices: 0\); choose fewer"):
        launch(2, "cuda")


def test_threads_are_as_before_once_the_context_is_left():
    before = torch.get_num_threads()
    with threads_an_operation(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("capabilities", "pays"),
    [({"avx512_bf16": True}, True), ({"amx_bf16": True, "avx512_bf16": False}, True), ({"avx2": True}, False)],
)
def test_half_precision_is_used_where_the_cpu_has_instructions_for_it(monkeypatch, capabilities, pays):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: capabilities)
    assert half_precision_pays(torch.device("cpu")) is pays
