import pytest
import torch
from support import largest_difference, randomise
from torch import nn
from transformers import ViTConfig as TheirConfig
from transformers import ViTForImageClassification

from minimllm import Recorder, ViT, ViTConfig, rollout
from minimllm.layers.attention import Attention, KeyValueCache

SMALL = ViTConfig(image_size=16, patch_size=4, dim=16, layers=2, heads=2, mlp_dim=32, classes=3)


def test_the_model_is_unchanged_and_forgets_the_hooks():
    model, images = randomise(ViT(SMALL)), torch.randn(2, 3, 16, 16)
    before = model(images)
    with Recorder(model) as recorder:
        during = model(images)
        model(images[:1]).sum().backward()
    assert torch.equal(before, during)
    assert recorder.attention["blocks.0.attention"].shape == (1, 2, 17, 17), "the last call counts"
    assert recorder.attention["blocks.1.attention"].shape == (1, 2, 1, 17), "the head reads the class token alone"
    assert [call.shape[0] for call in recorder.calls["blocks.0.attention"]] == [2, 1]
    model(images)
    assert len(recorder.calls["blocks.0.attention"]) == 2, "hooks are gone"
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_hooks_go_when_the_model_fails():
    model = ViT(SMALL)
    with pytest.raises(ValueError), Recorder(model):
        model(torch.randn(1, 3, 20, 20))
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_weights_equal_those_of_transformers(tmp_path):
    config = TheirConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=16,
        patch_size=4,
        attn_implementation="eager",
    )
    theirs = randomise(ViTForImageClassification(config))
    theirs.save_pretrained(tmp_path)
    images = torch.randn(2, 3, 16, 16)
    model = ViT.from_pretrained(tmp_path)
    with Recorder(model) as recorder:
        model.encode(images)
    for layer, expected in enumerate(theirs(images, output_attentions=True).attentions):
        assert largest_difference(recorder.attention[f"blocks.{layer}.attention"], expected) < 1e-5


def test_masks_context_and_cache_are_recorded_as_used():
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = randomise(Attention(8, 2))

        def forward(self, x, **kwargs):
            return self.inner(x, **kwargs)

    model, x, cache = Wrapped(), torch.randn(1, 4, 8), KeyValueCache()
    causal = torch.ones(4, 4, dtype=torch.bool).tril()
    with Recorder(model) as recorder:
        whole = model(x, mask=causal)
        parts = [model(x[:, :3], mask=causal[:3, :3], cache=cache), model(x[:, 3:], mask=causal[3:], cache=cache)]
    full, first, last = recorder.calls["inner"]
    assert largest_difference(torch.cat(parts, 1), whole) < 1e-6, "recording does not extend the cache a second time"
    assert largest_difference(full[:, :, 3:], last) < 1e-6 and largest_difference(full[:, :, :3, :3], first) < 1e-6


def test_unknown_layers_are_named():
    with pytest.raises(ValueError, match="blocks.7.attention.*blocks.0.attention"):
        Recorder(ViT(SMALL), ["blocks.7.attention"])
    with pytest.raises(ValueError, match="Linear has no attention"):
        Recorder(nn.Linear(2, 2))


def test_rollout_keeps_rows_that_sum_to_one():
    attention = [torch.rand(2, 3, 5, 5).softmax(-1) for _ in range(4)]
    assert torch.allclose(rollout(attention).sum(-1), torch.ones(2, 5))
    nobody = [torch.eye(5).expand(1, 2, 5, 5)] * 3
    assert torch.equal(rollout(nobody)[0], torch.eye(5)), "tokens that see themselves alone stay themselves"
    one_step = [torch.eye(3).roll(1, 0).expand(1, 1, 3, 3)] * 2
    expected = ((torch.eye(3) + torch.eye(3).roll(1, 0)) / 2) @ ((torch.eye(3) + torch.eye(3).roll(1, 0)) / 2)
    assert torch.allclose(rollout(one_step)[0], expected)
    class_token_alone = rollout([*attention[:-1], attention[-1][:, :, :1]])
    assert torch.allclose(class_token_alone, rollout(attention)[:, :1])
    with pytest.raises(ValueError, match="none"):
        rollout([])
