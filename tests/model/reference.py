"""The single-token networks of the Elixir reference, implemented independently in NumPy from its formulas."""

from math import erf, sqrt

import numpy as np


def gelu(x):
    return x * (np.vectorize(erf)(x / sqrt(2)) + 1) / 2


def dense(x, weights, name):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def layer_norm(x, weights, name):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return weights[f"{name}.weight"] * (x - mean) / np.sqrt(variance + 1e-5) + weights[f"{name}.bias"]


def blocks(x, weights, depth):
    for i in range(depth):
        value = dense(layer_norm(x, weights, f"blocks.{i}.attention_norm"), weights, f"blocks.{i}.attention.value")
        x = x + dense(value, weights, f"blocks.{i}.attention.out")
        up = gelu(dense(layer_norm(x, weights, f"blocks.{i}.mlp_norm"), weights, f"blocks.{i}.mlp.0"))
        x = x + dense(up, weights, f"blocks.{i}.mlp.2")
    return layer_norm(x, weights, "norm")


def encoder(features, weights, depth):
    x = gelu(dense(features, weights, "patches.0.project")) + weights["position"][0]
    return blocks(x, weights, depth)


def predictor(context, weights, depth):
    x = gelu(dense(context, weights, "project")) + weights["context_position"]
    return dense(blocks(x, weights, depth), weights, "project_back")


def edifice_encoder(features, parameters):
    """The Elixir reference's context encoder in float64, on parameters under the names that it saves them."""
    x = gelu(_axon_dense(features, parameters, "ctx_enc_proj"))
    return _edifice_blocks(x, parameters, "ctx_enc")


def edifice_predictor(context, parameters):
    """The Elixir reference's predictor; see `edifice_encoder`."""
    x = _edifice_blocks(gelu(_axon_dense(context, parameters, "pred_proj_down")), parameters, "pred")
    return _axon_dense(x, parameters, "pred_proj_up")


def _edifice_blocks(x, parameters, network):
    i = 1
    while f"{network}_block_{i}_attn_qkv.kernel" in parameters:
        block = f"{network}_block_{i}"
        normed = _axon_norm(x, parameters, f"{block}_attn_norm")
        _query, _key, value = np.split(_axon_dense(normed, parameters, f"{block}_attn_qkv"), 3, axis=-1)
        x = x + _axon_dense(value, parameters, f"{block}_attn_out")
        up = gelu(_axon_dense(_axon_norm(x, parameters, f"{block}_ffn_norm"), parameters, f"{block}_ffn_up"))
        x = x + _axon_dense(up, parameters, f"{block}_ffn_down")
        i += 1
    return _axon_norm(x, parameters, f"{network}_final_norm")


def _axon_dense(x, parameters, layer):
    return x @ parameters[f"{layer}.kernel"].astype(np.float64) + parameters[f"{layer}.bias"]


def _axon_norm(x, parameters, layer):
    scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return parameters[f"{layer}.gamma"] * scaled + parameters[f"{layer}.beta"]


def weights_of(network):
    return {name: value.double().numpy() for name, value in network.state_dict().items()}
