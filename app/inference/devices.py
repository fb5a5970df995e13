"""Where graphs run: on the CPU or, by an ONNX Runtime that the user installs for it, on an NVIDIA GPU."""

import warnings
from importlib.metadata import packages_distributions, version
from typing import Any, Literal

import onnxruntime as ort

from app.settings import Device

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
# A GPU would round float32 to 10 bits of mantissa, and golden rows would not be reproduced. What it cannot compute is
# left to the CPU.
PROVIDERS: dict[Device, list[Any]] = {"cpu": [CPU], "cuda": [(CUDA, {"use_tf32": "0"}), CPU]}
# An ONNX graph of one node, y = -x: opening it tells whether the GPU can be used, where its provider is installed.
ONE_NODE = bytes.fromhex(
    "08083a320a0b0a017812017922034e65671201705a0f0a0178120a0a0808"
    "0112040a020801620f0a0179120a0a08080112040a02080142040a00100d"
)


class NoDevice(Exception):
    """Says what is installed, and what would have to be."""


def choose(wanted: Literal["auto", "cpu", "cuda"], workers: int) -> Device:
    """`auto` is the GPU where it can be used and one process serves, since GPUs do not survive the fork of workers;
    NoDevice where the GPU is wanted and cannot be used."""
    if wanted == "cpu" or (wanted == "auto" and workers > 1):
        return "cpu"
    if CUDA not in ort.get_available_providers():
        missing = "has no provider for CUDA"
    elif not _opens_on_gpu():
        missing = "has the provider for CUDA, but no GPU, driver, CUDA or cuDNN that it can use"
    else:
        return "cuda"
    if wanted == "auto":
        return "cpu"
    raise NoDevice(
        f"device cuda cannot be used: {_installed()} {missing}; in place of onnxruntime install it with: pip install "
        "'onnxruntime-gpu[cuda,cudnn]', or serve on the CPU with device cpu"
    )


def runs_on(session: ort.InferenceSession, device: Device) -> bool:
    """Whether a session was opened there: ONNX Runtime takes another provider without an error where one fails."""
    return device == "cpu" or CUDA in session.get_providers()


def _opens_on_gpu() -> bool:
    # CUDA's libraries may have come as packages of their own, which no linker finds.
    ort.preload_dlls()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            session = ort.InferenceSession(ONE_NODE, providers=PROVIDERS["cuda"], enable_fallback=False)
        except Exception:  # ONNX Runtime raises a dozen unrelated types
            return False
    return runs_on(session, "cuda")


def _installed() -> str:
    """The distribution that the module is of, such as `onnxruntime 1.32.0`; it takes half a second to find."""
    names = sorted(set(packages_distributions().get("onnxruntime", ["onnxruntime"])))
    return " and ".join(f"{name} {version(name)}" for name in names)
