import copy

import pytest
import torch
from support import largest_difference, randomise
from transformers import LlamaConfig, MllamaTextConfig
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding
from transformers.models.mllama.modeling_mllama import MllamaTextCrossAttention

from minimllm.layers.attention import Attention, KeyValueCache


def angles(length, head_dim, start=0):
    steps = torch.arange(start, start + length)[:, None] * 10000 ** -(torch.arange(0, head_dim, 2) / head_dim)
    return torch.cat([steps, steps], dim=-1).cos(), torch.cat([steps, steps], dim=-1).sin()


def test_equals_the_textbook_formula_head_by_head():
    attention, x = randomise(Attention(12, 3)), torch.randn(2, 5, 12)
    heads = []
    for h in range(3):
        rows = slice(4 * h, 4 * h + 4)
        q, k, v = (x @ layer.weight[rows].T + layer.bias[rows] for layer in (attention.query, attention.key, attention.value))
        heads.append((q @ k.transpose(1, 2) / 2).softmax(-1) @ v)
    assert largest_difference(attention(x), attention.output(torch.cat(heads, -1))) < 1e-5


def test_weights_are_those_that_forward_uses():
    attention, x, context = randomise(Attention(12, 4, key_value_heads=2, context_dim=6)), torch.randn(2, 5, 12), torch.randn(2, 7, 6)
    mask = torch.rand(2, 1, 5, 7) > 0.4
    mask[..., 0] = True
    weights = attention.weights(x, context, mask)
    assert weights.shape == (2, 4, 5, 7)
    assert torch.allclose(weights.sum(-1), torch.ones(2, 4, 5)) and (weights[~mask.expand_as(weights)] == 0).all()
    values = attention.value(context).reshape(2, 7, 2, 3).transpose(1, 2).repeat_interleave(2, dim=1)
    mixed = (weights @ values).transpose(1, 2).reshape(2, 5, 12)
    assert largest_difference(attention(x, context, mask), attention.output(mixed)) < 1e-5


def test_grouped_queries_equal_repeated_key_value_heads():
    few, many = randomise(Attention(16, 4, key_value_heads=2)), Attention(16, 4)
    repeated = {
        name: value.unflatten(0, (2, 4)).repeat_interleave(2, dim=0).flatten(0, 1) if name.startswith(("key.", "value.")) else value
        for name, value in few.state_dict().items()
    }
    many.load_state_dict(repeated)
    x = torch.randn(2, 6, 16)
    assert largest_difference(few(x), many(x)) < 1e-6


def test_rotary_scores_depend_on_the_distance_alone():
    attention, x = randomise(Attention(16, 2)), torch.randn(1, 6, 16)
    assert largest_difference(attention(x, rotary=angles(6, 8)), attention(x, rotary=angles(6, 8, start=100))) < 1e-4
    assert largest_difference(attention(x, rotary=angles(6, 8)), attention(x)) > 1e-2


@pytest.mark.parametrize("steps", [[6], [4, 1, 1], [1] * 6, [2, 4]])
def test_cached_equals_uncached(steps):
    attention, x, cache, done, parts = randomise(Attention(16, 4, key_value_heads=2)), torch.randn(2, 6, 16), KeyValueCache(), 0, []
    causal = torch.ones(6, 6, dtype=torch.bool).tril()
    for n in steps:
        rows = slice(done, done + n)
        parts.append(attention(x[:, rows], mask=causal[rows, : done + n], rotary=angles(n, 4, start=done), cache=cache))
        done += n
    assert largest_difference(torch.cat(parts, 1), attention(x, mask=causal, rotary=angles(6, 4))) < 1e-6
    assert cache.keys.shape == cache.values.shape == (2, 2, 6, 4)


def test_cross_attention_projects_its_context_once():
    attention, cache, context = randomise(Attention(8, 2, context_dim=6)), KeyValueCache(), torch.randn(1, 5, 6)
    first, second = torch.randn(1, 3, 8), torch.randn(1, 1, 8)
    attention(first, context, cache=cache)
    kept = cache.keys
    assert torch.equal(attention(second, context, cache=cache), attention(second, context)) and cache.keys is kept


def test_the_cache_writes_new_tokens_behind_the_others_without_copying_them():
    cache, parts = KeyValueCache(), torch.randn(40, 2, 3, 1, 4)
    with torch.no_grad():
        memory = [cache.extend(part, part + 1)[0].data_ptr() for part in parts]
    assert torch.equal(cache.keys, torch.cat(list(parts), dim=2)) and torch.equal(cache.values, cache.keys + 1)
    assert len(set(memory)) <= 4, "room for more tokens is made three times at most"
    cache.keys, cache.values = cache.keys[:, :, :7], cache.values[:, :, :7]  # back to the first tokens
    with torch.no_grad():
        assert torch.equal(cache.extend(parts[0], parts[0])[0], torch.cat([*parts[:7], parts[0]], dim=2))


def test_a_deep_copy_of_a_cache_goes_its_own_way():
    cache, parts = KeyValueCache(), torch.randn(4, 1, 2, 1, 4)
    with torch.no_grad():
        for part in parts[:2]:
            cache.extend(part, part)
        fork = copy.deepcopy(cache)
        cache.extend(parts[2], parts[2]), fork.extend(parts[3], parts[3])
    assert torch.equal(cache.keys, torch.cat([*parts[:3]], dim=2))
    assert torch.equal(fork.values, torch.cat([*parts[:2], parts[3]], dim=2))


def test_the_cache_leaves_what_a_backward_pass_needs():
    parts, cache = torch.randn(3, 1, 2, 1, 4, requires_grad=True), KeyValueCache()
    total = sum(cache.extend(part, part)[0].square().sum() for part in parts)
    total.backward()
    assert torch.allclose(parts.grad, 2 * parts * torch.tensor([3.0, 2.0, 1.0]).view(3, 1, 1, 1, 1))


def test_a_cache_of_other_rows_is_refused():
    cache = KeyValueCache()
    with torch.no_grad(), pytest.raises(ValueError, match="3 rows.*are 1"):
        cache.extend(torch.zeros(3, 2, 1, 4), torch.zeros(3, 2, 1, 4))
        cache.extend(torch.zeros(1, 2, 1, 4), torch.zeros(1, 2, 1, 4))


def test_equals_the_self_attention_of_llama():
    config = LlamaConfig(hidden_size=32, num_attention_heads=4, num_key_value_heads=2, attn_implementation="eager")
    theirs = randomise(LlamaAttention(config, layer_idx=0))
    ours = Attention(32, 4, key_value_heads=2, bias=False)
    ours.load_state_dict({rename(name): value for name, value in theirs.state_dict().items()})
    x = torch.randn(2, 7, 32)
    rotary = LlamaRotaryEmbedding(config)(x, torch.arange(7)[None].expand(2, -1))
    additive = torch.full((7, 7), torch.finfo(torch.float32).min).triu(1)[None, None]
    expected = theirs(x, position_embeddings=rotary, attention_mask=additive)[0]
    assert largest_difference(ours(x, mask=torch.ones(7, 7, dtype=torch.bool).tril(), rotary=rotary), expected) < 1e-5


def test_equals_the_cross_attention_of_llama_3_2_vision():
    config = MllamaTextConfig(hidden_size=32, num_attention_heads=4, num_key_value_heads=2, attn_implementation="eager")
    theirs = randomise(MllamaTextCrossAttention(config, layer_idx=0))
    ours = Attention(32, 4, key_value_heads=2, bias=False, normalise_heads=config.rms_norm_eps)
    ours.load_state_dict({rename(name): value for name, value in theirs.state_dict().items()})
    x, context = torch.randn(2, 7, 32), torch.randn(2, 9, 32)
    mask = torch.rand(2, 1, 7, 9) > 0.5
    mask[..., 0] = True
    additive = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    expected = theirs(x, cross_attention_states=context, attention_mask=additive)[0]
    assert largest_difference(ours(x, context, mask=mask), expected) < 1e-5


def rename(name):
    for theirs, ours in {
        "q_proj": "query",
        "k_proj": "key",
        "v_proj": "value",
        "o_proj": "output",
        "q_norm": "query_norm",
        "k_norm": "key_norm",
    }.items():
        name = name.replace(theirs, ours)
    return name


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="width of 10.*4 heads"):
        Attention(10, 4)
    with pytest.raises(ValueError, match="4 query heads.*3 key/value"):
        Attention(12, 4, key_value_heads=3)
