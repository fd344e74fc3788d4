"""LoRA: nothing at the start, the paper's equation after that, one layer again in the end; and nothing else learns."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from support import randomise
from torch import nn

from minimllm import LanguageModel, LanguageModelConfig, LoRA, TrainingConfig, add_lora, generate, load, merge_lora, save, train

CONFIG = replace(LanguageModelConfig.tiny(23), layers=2, dim=24, heads=4, key_value_heads=2, tied=True)
IDS = torch.tensor([[1, 5, 9, 0, 22], [3, 3, 7, 8, 2]])


def talker() -> LanguageModel:
    return randomise(LanguageModel(CONFIG, seed=3))


def changed(model: nn.Module, seed: int = 5) -> nn.Module:
    """With what LoRA learns no longer at its start."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, LoRA):
            nn.init.normal_(module.up, std=0.3, generator=generator)
    return model


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rank, alpha", [(1, 1.0), (3, 12.0), (4, 0.5)])
def test_is_the_papers_equation(bias, rank, alpha):
    linear = randomise(nn.Linear(6, 4, bias=bias))
    layer, x = LoRA(linear, rank, alpha, torch.Generator().manual_seed(1)), torch.randn(2, 5, 6)
    assert layer.down.shape == (rank, 6) and layer.up.shape == (4, rank)
    assert torch.equal(layer(x), linear(x)), "B is 0 at the start"
    assert layer.down.abs().min() > 0
    nn.init.normal_(layer.up, generator=torch.Generator().manual_seed(2))
    weight = linear.weight + alpha / rank * layer.up @ layer.down
    torch.testing.assert_close(layer(x), F.linear(x, weight, linear.bias))
    torch.testing.assert_close(layer.merged()(x), layer(x))


def test_start_has_the_size_of_the_input_whatever_the_width():
    for width in (30, 3000):
        down = LoRA(nn.Linear(width, 40), 20, generator=torch.Generator().manual_seed(0)).down
        assert 0.8 < F.linear(torch.randn(50, width, generator=torch.Generator().manual_seed(1)), down).std() < 1.2


def test_seed_decides_and_the_global_state_stays():
    before = torch.random.get_rng_state()
    one, again, other = (add_lora(talker(), 2, seed=seed) for seed in (4, 4, 5))
    assert torch.equal(torch.random.get_rng_state(), before)
    one, again, other = (dict(model.named_parameters()) for model in (one, again, other))
    name = "blocks.1.attention.value.down"
    assert torch.equal(one[name], again[name]) and not torch.equal(one[name], other[name])
    assert not torch.equal(one[name][:, :24], one["blocks.0.attention.value.down"])


def test_a_model_with_it_is_the_model_at_the_start_and_merged_what_it_became():
    plain, model = talker(), add_lora(talker(), 3, 6.0)
    assert torch.equal(model(IDS), plain(IDS))
    expected = changed(model)(IDS)
    assert not torch.allclose(expected, plain(IDS), atol=1e-2)
    frozen = model.blocks[0].attention.query.linear.weight
    before = frozen.clone()
    assert merge_lora(model) is model and torch.equal(frozen, before)
    torch.testing.assert_close(model(IDS), expected, atol=1e-5, rtol=1e-5)
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not torch.equal(model.blocks[1].attention.value.weight, plain.blocks[1].attention.value.weight)
    assert torch.equal(model.blocks[1].attention.key.weight, plain.blocks[1].attention.key.weight)


@pytest.mark.parametrize("projections", [("query", "value"), ("key",), ("output", "query", "key", "value")])
def test_only_what_is_new_gets_a_gradient(projections):
    model = changed(add_lora(talker(), 2, projections=projections))
    model(IDS).square().mean().backward()
    learned = {name for name, parameter in model.named_parameters() if parameter.grad is not None and parameter.grad.abs().sum() > 0}
    assert learned == {f"blocks.{i}.attention.{name}.{part}" for i in range(2) for name in projections for part in ("down", "up")}
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == learned


def test_at_the_start_up_alone_is_pulled():
    model = add_lora(talker(), 2)
    model(IDS).square().mean().backward()
    attention = model.blocks[1].attention
    assert attention.query.up.grad.abs().sum() > 0 and attention.query.down.grad.abs().sum() == 0


def test_learns_in_the_courses_loop_while_the_rest_stays():
    model, plain = add_lora(talker(), 4, projections=("query", "key", "value", "output")), talker()

    def loss(model, ids):
        return F.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten()), {}

    history = train(model, lambda step: IDS, loss, TrainingConfig(30, 2, 2e-2, muon_learning_rate=None))
    assert history.losses[-1] < 0.8 * history.losses[0]
    state = model.state_dict()
    for name, tensor in plain.state_dict().items():
        inside = name.replace(".weight", ".linear.weight")
        assert torch.equal(state[name if name in state else inside], tensor), name


def test_writes_with_a_cache_as_without():
    model = changed(add_lora(talker(), 2, projections=("key", "value")))
    one, other = (generate(model, IDS, 6, use_cache=cached) for cached in (True, False))
    assert torch.equal(one, other)


def test_keeps_type_and_mode():
    model = add_lora(talker().to(torch.bfloat16).train(), 2)
    layer = model.blocks[0].attention.query
    assert layer.up.dtype == layer.down.dtype == torch.bfloat16 and layer.training
    assert merge_lora(model)(IDS).dtype == torch.bfloat16 and model.blocks[0].attention.query.training


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: LoRA(nn.Linear(6, 4), 5), "rank must be 1 to 4 for a layer of 4 x 6 numbers, got 5"),
        (lambda: LoRA(nn.Linear(6, 4), 0), "got 0"),
        (lambda: add_lora(talker(), projections=("up",)), r"some of query, key, value, output, got \('up',\)"),
        (lambda: add_lora(talker(), projections="query"), "got 'query'"),
        (lambda: add_lora(nn.Linear(3, 3)), "a Linear has no attention layer"),
        (lambda: add_lora(add_lora(talker())), r"merge_lora\(model\) first"),
        (lambda: merge_lora(talker()), "no LoRA to be merged"),
    ],
)
def test_what_does_not_go(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_model_is_saved_when_it_is_merged(tmp_path):
    model = changed(add_lora(talker(), 2))
    for write in (lambda: model.save_pretrained(tmp_path / "theirs"), lambda: save(tmp_path / "ours", model, None, {})):
        with pytest.raises(ValueError, match=r"blocks\.0\.attention\.query is a LoRA.*: merge_lora\(model\) first"):
            write()
    assert not list(tmp_path.iterdir())
    merge_lora(model)
    for folder in (model.save_pretrained(tmp_path / "theirs"), save(tmp_path / "ours", model, None, {})):
        assert torch.equal(load(folder)[0](IDS), model(IDS))


def test_a_refused_model_is_as_it_was():
    model = talker()
    with pytest.raises(ValueError, match="rank must be 1 to 12"):
        add_lora(model, 13)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(isinstance(module, LoRA) for module in model.modules())
