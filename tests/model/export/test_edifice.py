import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bundle.schema import Group
from model.export.edifice import convert, read_parameters
from tests.model import reference
from tests.support.edifice import encoder_parameters, predictor_parameters, write


def imported(folder, encoder=None, predictor=None, about=None):
    networks, schema = convert(*map(read_parameters, write(folder, encoder, predictor)), about or {})
    for network in networks:
        network.eval()
    return networks, schema


@pytest.fixture
def rows():
    return np.random.default_rng(5).normal(0, 3, (7, 12)).astype(np.float32)


@pytest.mark.parametrize(
    ("encoder", "predictor"),
    [
        ({}, {}),
        ({"depth": 1}, {"depth": 1}),
        ({"inputs": 1, "depth": 10}, {}),
        ({"width": 9, "hidden": 11}, {"inputs": 9, "width": 20, "hidden": 5}),  # no common ratio, no common divisor
    ],
)
def test_both_networks_compute_what_the_reference_computes(tmp_path, encoder, predictor):
    encoder, predictor = encoder_parameters(**encoder), predictor_parameters(**predictor)
    networks, schema = imported(tmp_path, encoder, predictor)
    rows = np.random.default_rng(5).normal(0, 3, (7, schema.input_dim)).astype(np.float32)
    expected = reference.edifice_encoder(rows, encoder)
    with torch.inference_mode():
        embeddings = networks.context_encoder(networks.encoding(torch.from_numpy(rows)))
        predictions = networks.predictor(embeddings)
    np.testing.assert_allclose(embeddings.numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(predictions.numpy(), reference.edifice_predictor(expected, predictor), atol=1e-5)


def test_the_target_encoder_is_the_context_encoder(tmp_path, rows):
    networks, _ = imported(tmp_path)
    with torch.inference_mode():
        given = torch.from_numpy(rows)
        torch.testing.assert_close(networks.target_encoder(given), networks.context_encoder(given), atol=0, rtol=0)


def test_a_hidden_group_reads_as_zeros(tmp_path, rows):
    networks, schema = imported(tmp_path, about={"groups": [["own", 0, 5], ["opponent", 5, 12]]})
    assert schema.groups == (Group("own", 0, 5), Group("opponent", 5, 12))
    visible = torch.tensor([[True, False]]).expand(7, 2)
    zeroed = rows.copy()
    zeroed[:, 5:] = 0
    with torch.inference_mode():
        hidden = networks.context_encoder(torch.from_numpy(rows), visible).numpy()
    np.testing.assert_allclose(hidden, reference.edifice_encoder(zeroed, encoder_parameters()), atol=1e-5)


def test_without_a_description_columns_and_groups_are_those_of_unnamed_data(tmp_path):
    _, schema = imported(tmp_path)
    assert schema.names[-1] == "f011"
    assert [group.name for group in schema.groups] == [f"patch{i}" for i in range(8)]


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_other_floats_become_float32(tmp_path, kind):
    saved = {name: torch.from_numpy(v) for name, v in encoder_parameters().items()}
    saved = {name: v.to(kind) if v.is_floating_point() else v for name, v in saved.items()}
    save_file(saved, tmp_path / "encoder.safetensors")
    for name, tensor in read_parameters(tmp_path / "encoder.safetensors").tensors.items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, saved[name].float(), atol=0, rtol=0)


def test_the_state_of_dropout_is_no_parameter_not_even_averaged_to_floats(tmp_path):
    averaged = {k: v.astype(np.float32) if k.endswith(".key") else v for k, v in encoder_parameters().items()}
    assert any(name.endswith(".key") for name in averaged)
    for given in (averaged, {k: v for k, v in averaged.items() if not k.endswith(".key")}):
        imported(tmp_path, encoder=given)


def without(parameters, pattern):
    return {name: v for name, v in parameters.items() if not re.match(pattern, name)}


ENCODER, PREDICTOR = encoder_parameters(), predictor_parameters()
FLOATS = np.zeros((4, 4), np.float32)


@pytest.mark.parametrize(
    ("encoder", "predictor", "message"),
    [
        (PREDICTOR, ENCODER, r"the files are swapped: .*/encoder.safetensors holds a predictor, .* encoder first"),
        (ENCODER, ENCODER, r"predictor.safetensors holds a context encoder; give a file that holds a predictor"),
        (PREDICTOR, PREDICTOR, r"encoder.safetensors holds a predictor; give a file that holds a context encoder"),
        (ENCODER | PREDICTOR, PREDICTOR, r"holds both networks; part them in Elixir(.|\n)*Map.split_with\(params"),
        (
            {"encoder.ctx_enc_proj.kernel": FLOATS},
            PREDICTOR,
            r"no layer of Edifice's JEPA, whose names start with ctx_enc_ or pred_; it has encoder.ctx_enc_proj.kernel",
        ),
        ({"step": np.array([3])}, PREDICTOR, "it has none at all"),
        (ENCODER, {"tjepa_pred_proj_down.kernel": FLOATS}, "predictor.safetensors is of Edifice's TemporalJEPA"),
        ({"vjepa2_enc_block_0_attn_q.kernel": FLOATS}, PREDICTOR, "encoder.safetensors is of Edifice's VJEPA2"),
        (
            without(ENCODER, "ctx_enc_block_2_attn_out.bias"),
            PREDICTOR,
            "lacks ctx_enc_block_2_attn_out.bias; save all layers of the network",
        ),
        (ENCODER, without(PREDICTOR, "pred_proj_up"), "predictor.safetensors lacks pred_proj_up.kernel"),
        (ENCODER, without(PREDICTOR, "pred_block_"), "lacks pred_block_1_ffn_up.kernel"),
        (
            ENCODER,
            without(PREDICTOR, "pred_block_2_"),
            "predictor.safetensors has pred_block_3 but no pred_block_2; save all layers",
        ),
        (
            ENCODER | {"head.kernel": FLOATS},
            PREDICTOR,
            "also has head.kernel, which no JEPA of Edifice has; save the network without what was added",
        ),
        (ENCODER, PREDICTOR | {"pred_block_0_attn_norm.gamma": FLOATS}, "also has pred_block_0_attn_norm.gamma"),
        (
            ENCODER | {"ctx_enc_block_1_attn_qkv.kernel": FLOATS},
            PREDICTOR,
            r"ctx_enc_block_1_attn_qkv.kernel is \[4, 4\], where the other layers ask for \[16, 48\]; save both files",
        ),
        (ENCODER | {"ctx_enc_proj.kernel": FLOATS[0]}, PREDICTOR, r"is \[4\], .* ask for \[inputs, width\]"),
        (ENCODER, PREDICTOR | {"pred_final_norm.beta": FLOATS[0]}, r"pred_final_norm.beta is \[4\], .* ask for \[8\]"),
        (
            ENCODER,
            predictor_parameters(inputs=32),
            "predictor.safetensors takes embeddings of 32, but .*encoder.safetensors gives 16; save both files",
        ),
        (ENCODER | {"ctx_enc_proj.kernel": FLOATS[:0]}, PREDICTOR, r"ctx_enc_proj.kernel is empty, \[0, 4\]; save all"),
        (
            ENCODER | {"ctx_enc_final_norm.gamma": np.array([np.nan], np.float32)},
            PREDICTOR,
            "ctx_enc_final_norm.gamma holds NaN or Inf; take parameters from before the training diverged",
        ),
    ],
)
def test_what_does_not_fit_is_named_with_what_would(tmp_path, encoder, predictor, message):
    with pytest.raises(ValueError, match=message):
        imported(tmp_path, encoder, predictor)


def test_an_nx_file_is_answered_with_the_elixir_that_saves_it_anew(tmp_path):
    with pytest.raises(ValueError, match="only Elixir reads") as caught:
        read_parameters(tmp_path / "encoder.nx")
    assert str(caught.value).splitlines()[1:] == [
        f'  params = Edifice.Checkpoint.load("{tmp_path}/encoder.nx")',
        f'  Edifice.Checkpoint.save(params, "{tmp_path}/encoder.safetensors", format: :safetensors)',
    ]


@pytest.mark.parametrize("content", [b"", b"\0\0\0\0\0 an .nx file under another name", b"\x83m\0\0\0\2hi"])
def test_what_is_no_safetensors_file_is_said_to_be_none(tmp_path, content):
    (tmp_path / "encoder.bin").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"is no safetensors file \(.*\); save one in Elixir:\n  Edifice.Checkpoint.save"
    ):
        read_parameters(tmp_path / "encoder.bin")
