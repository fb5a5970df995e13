"""Files such as Edifice saves for its JEPA: Axon's names and shapes with random values, including dropout's state."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

Tensors = dict[str, NDArray[np.generic]]


def encoder_parameters(inputs: int = 12, width: int = 16, hidden: int = 64, depth: int = 2, seed: int = 0) -> Tensors:
    rng = np.random.default_rng(seed)
    return {
        **_dense(rng, "ctx_enc_proj", inputs, width),
        **_blocks(rng, "ctx_enc", width, hidden, depth),
        **_norm(rng, "ctx_enc_final_norm", width),
    }


def predictor_parameters(inputs: int = 16, width: int = 8, hidden: int = 32, depth: int = 3, seed: int = 1) -> Tensors:
    rng = np.random.default_rng(seed)
    return {
        **_dense(rng, "pred_proj_down", inputs, width),
        **_blocks(rng, "pred", width, hidden, depth),
        **_norm(rng, "pred_final_norm", width),
        **_dense(rng, "pred_proj_up", width, inputs),
    }


def write(folder: Path, encoder: Tensors | None = None, predictor: Tensors | None = None) -> tuple[Path, Path]:
    """Writes both files to the folder, with parameters of the default sizes unless given."""
    paths = folder / "encoder.safetensors", folder / "predictor.safetensors"
    save_file(encoder_parameters() if encoder is None else encoder, paths[0])
    save_file(predictor_parameters() if predictor is None else predictor, paths[1])
    return paths


def _blocks(rng: np.random.Generator, prefix: str, width: int, hidden: int, depth: int) -> Tensors:
    tensors: Tensors = {}
    for i in range(1, depth + 1):
        block = f"{prefix}_block_{i}"
        tensors |= _norm(rng, f"{block}_attn_norm", width)
        tensors |= _dense(rng, f"{block}_attn_qkv", width, 3 * width)
        tensors |= _dense(rng, f"{block}_attn_out", width, width)
        tensors |= _norm(rng, f"{block}_ffn_norm", width)
        tensors |= _dense(rng, f"{block}_ffn_up", width, hidden)
        tensors |= _dense(rng, f"{block}_ffn_down", hidden, width)
        tensors |= {f"{block}_{drop}_drop.key": rng.integers(0, 2**32, 2, np.uint32) for drop in ("attn", "ffn")}
    return tensors


def _dense(rng: np.random.Generator, layer: str, inputs: int, outputs: int) -> Tensors:
    """Axon's Glorot kernel, with a bias that is not zero, so that it shows where it goes."""
    limit = np.sqrt(6 / (inputs + outputs))
    kernel = rng.uniform(-limit, limit, (inputs, outputs)).astype(np.float32)
    return {f"{layer}.kernel": kernel, f"{layer}.bias": rng.normal(0, 0.1, outputs).astype(np.float32)}


def _norm(rng: np.random.Generator, layer: str, width: int) -> Tensors:
    """Gammas as far from 1, and of either sign, as Axon's Glorot start leaves them."""
    gamma = rng.uniform(-np.sqrt(3), np.sqrt(3), width).astype(np.float32)
    return {f"{layer}.gamma": gamma, f"{layer}.beta": rng.normal(0, 0.1, width).astype(np.float32)}
