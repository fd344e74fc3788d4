"""The block in which text looks at pictures: equal to that of transformers, and to Meta's where the two differ."""

import pytest
import torch
from support import CACHE, largest_difference, randomise
from transformers import DynamicCache, MllamaTextConfig
from transformers.models.mllama.modeling_mllama import MllamaCrossAttentionDecoderLayer, _prepare_cross_attention_mask

from minimllm.layers.attention import KeyValueCache
from minimllm.layers.blocks import GatedCrossAttentionBlock

NAMES = {
    "attention_norm": "input_layernorm",
    "attention.query": "cross_attn.q_proj",
    "attention.key": "cross_attn.k_proj",
    "attention.value": "cross_attn.v_proj",
    "attention.output": "cross_attn.o_proj",
    "attention.query_norm": "cross_attn.q_norm",
    "attention.key_norm": "cross_attn.k_norm",
    "attention_gate": "cross_attn_attn_gate",
    "mlp_norm": "post_attention_layernorm",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
    "mlp_gate": "cross_attn_mlp_gate",
}
SIZES = dict(vocab_size=99, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, intermediate_size=48)
TOKENS = 5  # of a tile


def pair(reference="transformers", attention="eager"):
    config = MllamaTextConfig(**SIZES, cross_attention_layers=[0], pad_token_id=0)
    config._attn_implementation = attention
    theirs = randomise(MllamaCrossAttentionDecoderLayer(config, 0))
    ours = GatedCrossAttentionBlock(32, 4, 48, key_value_heads=2, reference=reference).eval()
    theirs_state = theirs.state_dict()
    state = {}
    for name in ours.state_dict():
        stem = name if name in NAMES else name.rpartition(".")[0]
        state[name] = theirs_state[NAMES[stem] + name[len(stem) :]]
    assert len(state) == len(theirs_state)
    ours.load_state_dict(state)
    assert ours.attention_gate.item() == ours.mlp_gate.item() == pytest.approx(0.8)
    return ours, theirs


def inputs(images=2, seed=0):
    """Text, tokens of tiles, and which tiles each text token may see; some rows see nothing."""
    generator = torch.Generator().manual_seed(seed)
    x, context = torch.randn(2, 6, 32, generator=generator), torch.randn(2, images * 4 * TOKENS, 32, generator=generator)
    visible = torch.rand(2, 6, images, 4, generator=generator) > 0.5
    visible[0, :2] = False
    visible[1, 3] = False
    return x, context, visible, visible.flatten(2).repeat_interleave(TOKENS, dim=2)


def call(theirs, x, context, visible, cache=None):
    mask, rows = _prepare_cross_attention_mask(visible.long(), TOKENS, torch.float32)
    with torch.no_grad():
        return theirs(x, context, mask, None, rows, **{CACHE: cache})


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_block_equals_that_of_transformers(attention):
    ours, theirs = pair(attention=attention)
    x, context, visible, mask = inputs()
    with torch.no_grad():
        assert largest_difference(ours(x, context, mask), call(theirs, x, context, visible)) < 1e-5
        everything = torch.ones_like(visible)
        assert largest_difference(ours(x, context), call(theirs, x, context, everything)) < 1e-5


def test_by_metas_code_a_token_that_sees_no_picture_comes_out_as_it_went_in():
    (ours, theirs), (other, _) = pair("meta"), pair("transformers")
    x, context, visible, mask = inputs()
    blind = ~mask.any(-1)
    assert 0 < blind.sum() < blind.numel()
    with torch.no_grad():
        got = ours(x, context, mask)
        assert torch.equal(got[blind], x[blind])
        assert largest_difference(got[~blind], call(theirs, x, context, visible)[~blind]) < 1e-5
        assert ((other(x, context, mask) - x)[blind].abs() > 1e-2).any(), "transformers lets it see everything"


@pytest.mark.parametrize("reference", ["meta", "transformers"])
def test_the_cache_keeps_pictures_and_takes_in_new_ones(reference):
    ours, theirs = pair(reference)
    x, context, visible, mask = inputs(images=2)
    one = 4 * TOKENS
    cache, their_cache = KeyValueCache(), DynamicCache()
    chunks = [  # rows of the text, new pictures, number of pictures so far
        (slice(0, 3), context[:, :one], 1),
        (slice(3, 4), None, 1),
        (slice(4, 6), context[:, one:], 2),
    ]
    with torch.no_grad():
        for rows, new, images in chunks:
            seen = mask[:, rows, : images * one]
            got = ours(x[:, rows], new, seen, cache)
            assert cache.keys.shape == (2, 2, images * one, 8)
            assert largest_difference(got, ours(x[:, rows], context[:, : images * one], seen)) < 1e-5
            expected = call(theirs, x[:, rows], new, visible[:, rows, :images], their_cache)
            sees = seen.any(-1) | torch.tensor(reference == "transformers")
            assert sees.any() and largest_difference(got[sees], expected[sees]) < 1e-5


def test_without_any_picture_the_block_is_not_there():
    ours, _ = pair()
    x, *_ = inputs()
    assert ours(x) is x and ours(x, cache=KeyValueCache()) is x


def test_gates_of_zero_change_nothing_and_receive_a_gradient():
    block = GatedCrossAttentionBlock(32, 4, 48)
    x, context, _, mask = inputs()
    out = block(x, context, mask)
    assert torch.equal(out, x)
    out.pow(2).sum().backward()
    gates = [(name, parameter) for name, parameter in block.named_parameters() if name.endswith("gate")]
    assert [name for name, _ in gates] == ["attention_gate", "mlp_gate"]
    assert all(gate.shape == (1,) and gate.grad.abs() > 1e-3 for _, gate in gates)
    assert not block.attention.key.weight.grad.any(), "behind a closed gate nothing else learns yet"


def test_without_the_mlp_only_the_attention_is_added():
    ours, _ = pair("meta")
    x, context, _, mask = inputs()
    only = GatedCrossAttentionBlock(32, 4, None, key_value_heads=2)
    only.load_state_dict({name: value for name, value in ours.state_dict().items() if name.startswith("attention")})
    with torch.no_grad():
        half = only(x, context, mask)
        sees = mask.any(-1, keepdim=True)
        assert torch.equal(half + ours.mlp_gate.tanh() * ours.mlp(ours.mlp_norm(half)) * sees, ours(x, context, mask))


def test_gradients_equal_those_of_transformers():
    ours, theirs = pair()
    x, context, visible, mask = inputs()
    ours(x, context, mask).pow(2).sum().backward()
    bias, rows = _prepare_cross_attention_mask(visible.long(), TOKENS, torch.float32)
    theirs(x, context, bias, None, rows).pow(2).sum().backward()
    for name, parameter in ours.named_parameters():
        stem = name if name in NAMES else name.rpartition(".")[0]
        gradient = theirs.get_parameter(NAMES[stem] + name[len(stem) :]).grad
        assert largest_difference(parameter.grad, gradient) < 1e-4 * gradient.abs().max(), name


def test_pictures_of_another_width_are_projected_and_an_unknown_reference_is_refused():
    block = randomise(GatedCrossAttentionBlock(32, 4, None, context_dim=7))
    assert block(torch.randn(1, 3, 32), torch.randn(1, 5, 7)).shape == (1, 3, 32)
    with pytest.raises(ValueError, match="'meta' or 'transformers', got 'hf'"):
        GatedCrossAttentionBlock(32, 4, 48, reference="hf")
