"""The flat single-token networks of the Elixir reference, written a second time, in NumPy and from its formulas."""

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


def weights_of(network):
    return {name: value.double().numpy() for name, value in network.state_dict().items()}
