"""Builds our networks from the saved parameters of Edifice's JEPA (Elixir, Axon).

With one token per row and horizon 0, our networks compute the same function as its `lib/edifice/contrastive/jepa.ex`.
Layers have other names there, and kernels are [in, out]. The shapes determine every size except the number of heads,
which has no effect on a single token.
"""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from bundle.schema import Schema, unnamed_columns
from model.export.bundle import Networks
from model.networks.config import Config, Patch
from model.networks.encoder import ContextEncoder
from model.networks.predictor import Predictor

ENCODER, PREDICTOR = "ctx_enc_", "pred_"
HELD = {ENCODER: "a context encoder", PREDICTOR: "a predictor"}
OTHER_MODELS = {"tjepa_": "TemporalJEPA", "vjepa2_": "VJEPA2"}
LOAD = 'params = Edifice.Checkpoint.load("{path}")'
SAVE = 'Edifice.Checkpoint.save(params, "{path}", format: :safetensors)'
SPLIT = '{encoder, predictor} = Map.split_with(params, fn {layer, _} -> String.starts_with?(layer, "ctx_enc_") end)'
ALL_LAYERS = "save all layers of the network"
ONE_BUILD = "save both files from the networks of one build"

# Edifice's layer → the name of our module, and the shape of the layer's kernel or gamma.
Layers = dict[str, tuple[str, tuple[int, ...]]]


class Sizes(NamedTuple):
    """The sizes of one network: input columns, token width, hidden width of the MLPs, and number of blocks."""

    inputs: int
    width: int
    hidden: int
    depth: int


@dataclass(frozen=True)
class Saved:
    """The parameters in one file: `layer.parameter` → float32 tensor."""

    file: str
    tensors: Mapping[str, Tensor]

    def role(self) -> str:
        """ENCODER or PREDICTOR, judging by the names of the layers; ValueError for both, neither or another model."""
        for prefix, model in OTHER_MODELS.items():
            if any(name.startswith(prefix) for name in self.tensors):
                raise ValueError(
                    f"{self.file} is of Edifice's {model}, which is another network; this imports what "
                    "Edifice.Contrastive.JEPA builds"
                )
        found = [prefix for prefix in HELD if any(name.startswith(prefix) for name in self.tensors)]
        if len(found) == 2:
            raise ValueError(
                f"{self.file} holds both networks; part them in Elixir, and save each in a file of its own:\n"
                f"  {LOAD.format(path=self.file)}\n  {SPLIT}"
            )
        if not found:
            raise ValueError(
                f"{self.file} has no layer of Edifice's JEPA, whose names start with {ENCODER} or {PREDICTOR}; it has "
                f"{', '.join(sorted(self.tensors)[:3]) or 'none at all'}. Save the parameters of one network alone"
            )
        return found[0]

    def sizes(self, prefix: str, first: str) -> Sizes:
        """Reads the sizes from the first layer, `first`, and the blocks; ValueError if a block is missing."""
        inputs, width = self.tensor(f"{prefix}{first}.kernel", "inputs", "width").shape
        numbered = (re.match(rf"{prefix}block_(\d+)_", name) for name in self.tensors)
        blocks = {int(match[1]) for match in numbered if match}
        depth = max(blocks, default=1)
        missing = next(number for number in itertools.count(1) if number not in blocks)
        if missing < depth:
            raise ValueError(f"{self.file} has {prefix}block_{depth} but no {prefix}block_{missing}; {ALL_LAYERS}")
        hidden = self.tensor(f"{prefix}block_1_ffn_up.kernel", width, "hidden").shape[1]
        return Sizes(inputs, width, hidden, depth)

    def state(self, layers: Layers) -> dict[str, Tensor]:
        """The state dict for our network; ValueError unless the file has exactly these layers in these shapes."""
        state: dict[str, Tensor] = {}
        unknown = set(self.tensors)
        for layer, (module, shape) in layers.items():
            scale, shift = (
                (f"{layer}.gamma", f"{layer}.beta") if len(shape) == 1 else (f"{layer}.kernel", f"{layer}.bias")
            )
            weight, bias = self.tensor(scale, *shape), self.tensor(shift, shape[-1])
            unknown -= {scale, shift}
            if len(shape) == 2:
                weight = weight.T
            if layer.endswith("_attn_qkv"):
                for part, rows in (("query_key", slice(2 * shape[0])), ("value", slice(2 * shape[0], None))):
                    state |= {f"{module}.{part}.weight": weight[rows], f"{module}.{part}.bias": bias[rows]}
            else:
                state |= {f"{module}.weight": weight, f"{module}.bias": bias}
        if unknown:
            raise ValueError(
                f"{self.file} also has {', '.join(sorted(unknown)[:3])}, which no JEPA of Edifice has; save "
                "the network without what was added to it"
            )
        return state

    def tensor(self, name: str, *shape: int | str) -> Tensor:
        """The tensor of this name; ValueError if it is missing or its shape differs.

        A number in `shape` must match; a word names a size that may be anything, for the error message.
        """
        if name not in self.tensors:
            raise ValueError(f"{self.file} lacks {name}; {ALL_LAYERS}")
        tensor = self.tensors[name]
        fits = (isinstance(right, str) or right == size for right, size in zip(shape, tensor.shape, strict=False))
        if tensor.ndim != len(shape) or not all(fits):
            wanted = ", ".join(map(str, shape))
            raise ValueError(
                f"{self.file}: {name} is {[*tensor.shape]}, where the other layers ask for [{wanted}]; {ONE_BUILD}"
            )
        return tensor


def read_parameters(path: Path) -> Saved:
    """Reads safetensors written by `Edifice.Checkpoint.save`; ValueError for another format, NaN or Inf."""
    save = SAVE.format(path=path.with_suffix(".safetensors"))
    if path.suffix == ".nx":
        raise ValueError(
            f"{path} has the .nx format, which only Elixir reads; save it as safetensors there:\n"
            f"  {LOAD.format(path=path)}\n  {save}"
        )
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a file, not a dict)
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file ({error}); save one in Elixir:\n  {save}") from None
    # Dropout's random state is saved too, but is not a parameter. Its dtype does not always identify it: in a moving
    # average of all leaves it has become a float.
    kept = {k: v.float() for k, v in tensors.items() if v.is_floating_point() and not k.endswith(".key")}
    for name, values in kept.items():
        if not values.numel():
            raise ValueError(f"{path}: {name} is empty, {[*values.shape]}; {ALL_LAYERS}")
        if not values.isfinite().all():
            raise ValueError(f"{path}: {name} holds NaN or Inf; take parameters from before the training diverged")
    return Saved(str(path), kept)


def convert(encoder: Saved, predictor: Saved, about: Mapping[str, Any]) -> tuple[Networks, Schema]:
    """Builds both networks and the schema of their rows; `about` (a schema.json) may name the columns and groups.

    The context encoder also serves as the target encoder and takes raw columns. The reference has no hidden groups, so
    a hidden group is encoded as zeros.
    """
    _check_roles(encoder, predictor)
    inner, outer = encoder.sizes(ENCODER, "proj"), predictor.sizes(PREDICTOR, "proj_down")
    if outer.inputs != inner.width:
        raise ValueError(
            f"{predictor.file} takes embeddings of {outer.inputs}, but {encoder.file} gives {inner.width}; {ONE_BUILD}"
        )
    schema = Schema.of(unnamed_columns(inner.inputs), about)
    config = Config(
        inner.inputs,
        embed_dim=inner.width,
        predictor_embed_dim=outer.width,
        encoder_depth=inner.depth,
        predictor_depth=outer.depth,
        num_heads=1,
        mlp_ratio=inner.hidden / inner.width,
        dropout=0.0,
        patches=(Patch("row", schema.groups),),
        horizons=(0,),
    )
    network = ContextEncoder(config)
    state = encoder.state(_encoder_layers(inner)) | {"position": torch.zeros(1, inner.width)}
    projection = "patches.0.project.weight"
    flags_of_hidden_groups = network.state_dict()[projection].shape[1] - inner.inputs
    state[projection] = F.pad(state[projection], (0, flags_of_hidden_groups))
    network.load_state_dict(state)

    mapping = Predictor(replace(config, mlp_ratio=outer.hidden / outer.width))
    state = predictor.state(_predictor_layers(outer)) | {"context_position": torch.zeros(outer.width)}
    mapping.load_state_dict(state)
    return Networks(nn.Identity(), network, network, mapping), schema


def _check_roles(encoder: Saved, predictor: Saved) -> None:
    roles = encoder.role(), predictor.role()
    if roles == (PREDICTOR, ENCODER):
        raise ValueError(
            f"the files are swapped: {encoder.file} holds {HELD[PREDICTOR]}, {predictor.file} {HELD[ENCODER]}; "
            "give the encoder first"
        )
    for saved, role, wanted in zip((encoder, predictor), roles, HELD, strict=True):
        if role != wanted:
            raise ValueError(f"{saved.file} holds {HELD[role]}; give a file that holds {HELD[wanted]} in its place")


def _encoder_layers(sizes: Sizes) -> Layers:
    return {
        "ctx_enc_proj": ("patches.0.project", (sizes.inputs, sizes.width)),
        **_block_layers(ENCODER, sizes),
        "ctx_enc_final_norm": ("norm", (sizes.width,)),
    }


def _predictor_layers(sizes: Sizes) -> Layers:
    return {
        "pred_proj_down": ("project", (sizes.inputs, sizes.width)),
        **_block_layers(PREDICTOR, sizes),
        "pred_final_norm": ("norm", (sizes.width,)),
        "pred_proj_up": ("project_back", (sizes.width, sizes.inputs)),
    }


def _block_layers(prefix: str, sizes: Sizes) -> Layers:
    width, hidden = sizes.width, sizes.hidden
    layers: Layers = {}
    for i in range(sizes.depth):
        there, here = f"{prefix}block_{i + 1}", f"blocks.{i}"
        layers |= {
            f"{there}_attn_norm": (f"{here}.attention_norm", (width,)),
            f"{there}_attn_qkv": (f"{here}.attention", (width, 3 * width)),
            f"{there}_attn_out": (f"{here}.attention.out", (width, width)),
            f"{there}_ffn_norm": (f"{here}.mlp_norm", (width,)),
            f"{there}_ffn_up": (f"{here}.mlp.0", (width, hidden)),
            f"{there}_ffn_down": (f"{here}.mlp.2", (hidden, width)),
        }
    return layers
