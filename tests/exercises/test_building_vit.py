"""A learner's own ViT: the shipped weights fit into it, and what is wrong first is named."""

import pytest
import torch
from torch import Tensor, nn

from minimllm import ViT, ViTConfig, exercises

# oblong pictures, three unlike sizes, two blocks
CONFIG = ViTConfig((8, 12), 4, 2, 12, 2, 3, 20, classes=5)
IMAGES = torch.randn(3, 2, 8, 12, generator=torch.Generator().manual_seed(0))


def model() -> ViT:
    vit, generator = ViT(CONFIG, seed=1), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in vit.named_parameters():
            parameter.normal_(float("norm" in name and name.endswith("weight")), 0.4, generator=generator)
    return vit.eval()


class MyAttention(nn.Module):
    def __init__(self, config, scale: bool = True):
        super().__init__()
        self.heads, self.scale = config.heads, scale
        for name in ("query", "key", "value", "output"):
            setattr(self, name, nn.Linear(config.dim, config.dim))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, dim = x.shape
        q, k, v = (layer(x).view(batch, length, self.heads, -1).transpose(1, 2) for layer in (self.query, self.key, self.value))
        scores = q @ k.mT / (dim // self.heads) ** 0.5 if self.scale else q @ k.mT
        return self.output((scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, dim))


class MyBlock(nn.Module):
    def __init__(self, config, scale: bool = True, eps: float = 1e-6, activation=nn.functional.gelu):
        super().__init__()
        self.activation = activation
        self.attention_norm, self.mlp_norm = nn.LayerNorm(config.dim, eps), nn.LayerNorm(config.dim, eps)
        self.attention = MyAttention(config, scale)
        self.mlp = nn.ModuleDict({"up": nn.Linear(config.dim, config.mlp_dim), "down": nn.Linear(config.mlp_dim, config.dim)})

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp["down"](self.activation(self.mlp["up"](self.mlp_norm(x))))


class MyViT(nn.Module):
    """A right answer; its parts are put in the place of others below."""

    block, pattern, placed, normed, read = {}, (0, 2, 4, 1, 3, 5), True, True, staticmethod(lambda x: x[:, 0])

    def __init__(self, config):
        super().__init__()
        self.size = config.patch_size
        self.patches = nn.ModuleDict({"projection": nn.Linear(config.channels * self.size**2, config.dim)})
        self.class_token = nn.Parameter(torch.zeros(config.dim))
        self.positions = nn.ParameterDict({"table": torch.zeros(1 + config.grid[0] * config.grid[1], config.dim)})
        self.blocks = nn.ModuleList(MyBlock(config, **self.block) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim, 1e-6)
        self.head = nn.Linear(config.dim, config.classes)

    def forward(self, images: Tensor) -> Tensor:
        batch, channels, height, width = images.shape
        x = images.reshape(batch, channels, height // self.size, self.size, width // self.size, self.size)
        x = x.permute(self.pattern).reshape(batch, -1, channels * self.size**2)
        x = torch.cat([self.class_token.expand(batch, 1, -1), self.patches["projection"](x)], 1)
        if self.placed:
            x = x + self.positions["table"]
        for block in self.blocks:
            x = block(x)
        return self.head(self.read(self.norm(x) if self.normed else x))


def told(build, capsys) -> str:
    exercises.check_vit(build, model(), IMAGES)
    return capsys.readouterr().out


def test_a_right_model_is_right_and_an_empty_one_not_solved_yet(capsys):
    count = sum(weight.numel() for weight in model().parameters())
    assert (
        told(MyViT, capsys) == f"MyViT: right. The shipped model's {count:,} weights fit into it, and the logits are equal, to rounding.\n"
    )

    class Empty(nn.Module):
        def __init__(self, config):
            super().__init__()
            raise NotImplementedError

    class WithoutForward(MyViT):
        def forward(self, images):
            raise NotImplementedError

    assert "not solved yet" in told(Empty, capsys) and "not solved yet" in told(WithoutForward, capsys)


WRONG = {
    "pixel first": (
        {"pattern": (0, 2, 4, 3, 5, 1)},
        ["patches.projection is the first layer that differs", "goes into it differs", "is called"],
    ),
    "no positions": ({"placed": False}, ["blocks.0.attention_norm is the first layer", "Up to patches.projection all is right"]),
    "no scale": (
        {"block": {"scale": False}},
        ["blocks.0.attention.output is the first", "Up to blocks.0.attention.value all"],
    ),
    "another epsilon": ({"block": {"eps": 1e-2}}, ["blocks.0.attention_norm is the first layer", "look at how it is made"]),
    "another activation": ({"block": {"activation": torch.relu}}, ["blocks.0.mlp.down is the first", "Up to blocks.0.mlp.up"]),
    "no final norm": ({"normed": False}, ["head is the first layer that differs", "Up to blocks.1.mlp.down all is right"]),
    "the last token": ({"read": staticmethod(lambda x: x[:, -1])}, ["head is the first layer that differs", "Up to norm all is right"]),
    "every token": ({"read": staticmethod(lambda x: x)}, ["head is given another shape", "Up to norm all is right"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_first_layer_that_differs_is_named(name, capsys):
    changes, words = WRONG[name]
    said = told(type("MyViT", (MyViT,), changes), capsys)
    assert said.startswith("MyViT: not yet: the weights fit; ") and all(each in said for each in words), said


def test_names_and_shapes_are_compared_before_anything_runs(capsys):
    def built(change):
        def build(config):
            mine = MyViT(config)
            change(mine)
            return mine

        return build

    def narrow(mine):
        mine.blocks[1].mlp["up"] = nn.Linear(12, 19)

    def another_name(mine):
        mine.classifier = mine.head
        del mine.head

    def one_more(mine):
        mine.pooler = nn.Linear(2, 7)

    assert "blocks.1.mlp.up.weight is (19, 12) in your model, and the weights are (20, 12)" in told(built(narrow), capsys)
    said = told(built(another_name), capsys)
    assert "weights for head.weight, (5, 12), and your model has no parameter of this name; yours has classifier.weight" in said
    assert "your model has pooler.weight, (7, 2), for which there are no weights" in told(built(one_more), capsys)
    assert "it gives int" in told(lambda config: 3, capsys)

    class Stops(MyViT):
        def forward(self, images):
            return super().forward(images[:, :1])

    assert "the forward pass stops with RuntimeError" in told(Stops, capsys)
