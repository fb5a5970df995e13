import pytest
import torch

from model.networks.layers import Attention, Block, _products, _sums


@pytest.fixture
def parts():
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(5, 3, 2, 4, generator=generator) for _ in range(3))
    return q[:, 1:], k, v


@pytest.mark.parametrize("masked", [True, False])
def test_sums_and_products_are_the_same_attention(parts, masked):
    mask = torch.tensor([[True, False, True]]).expand(5, 3) if masked else None
    torch.testing.assert_close(_sums(*parts, mask), _products(*parts, mask))


@pytest.mark.parametrize("tokens", [2, 3, 4, 9])
def test_leaving_out_the_first_tokens_changes_nothing_for_the_others(tokens):
    torch.manual_seed(0)
    block = Block(16, num_heads=4, mlp_ratio=2.0, dropout=0.0)
    x = torch.randn(6, tokens, 16)
    mask = torch.rand(6, tokens) < 0.7
    mask[:, 0] = True
    torch.testing.assert_close(block(x, mask, first=1), block(x, mask)[:, 1:])


def test_attention_is_that_of_pytorch():
    torch.manual_seed(0)
    attention, x = Attention(16, num_heads=4), torch.randn(3, 2, 16)
    q, k = attention.query_key(x).chunk(2, dim=-1)
    heads = [part.view(3, 2, 4, 4).transpose(1, 2) for part in (q, k, attention.value(x))]
    expected = attention.out(torch.nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(x), expected)
