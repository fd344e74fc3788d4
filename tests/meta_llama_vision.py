"""Llama 3.2 Vision computed straight from tensors in Meta's layout: no name is translated, and no number put elsewhere.

Written from the facts of ``models/llama3/multimodal/model.py`` in meta-llama/llama-models, with nothing of minimllm: rotary positions
turn neighbours, as complex numbers; tables of positions are cut out of their grid for each picture; blocks of the two kinds are two
lists, and the schedule of the one among the other is computed.
"""

import math

import torch
import torch.nn.functional as F

WIDTH, HEADS, KEY_HEADS, MLP = 32, 4, 2, 48  # of the decoder
LAYERS, CROSS = 4, 2
VOCABULARY, NEW = 99, 8
VISION_WIDTH, VISION_HEADS, VISION_MLP = 24, 2, 40
VISION_LAYERS, GLOBAL_LAYERS, COLLECTED = 4, 2, (1, 3)
TILE, PATCH, TOKENS, TILES = 16, 4, 17, 4
BASE, FACTOR, LOW, HIGH, ORIGINAL = 500.0, 8.0, 1.0, 4.0, 64
HEAD = WIDTH // HEADS


def shapes() -> dict[str, tuple[int, ...]]:
    """Every tensor of a tiny checkpoint."""
    vision, text = "vision_model.vision_encoder.", "text_model."
    found = {
        f"{vision}conv1._linear.weight": (VISION_WIDTH, 3 * PATCH**2),
        f"{vision}class_embedding": (VISION_WIDTH,),
        f"{vision}positional_embedding": (TOKENS, VISION_WIDTH),
        f"{vision}gated_positional_embedding": (TILES, TILES, TOKENS, VISION_WIDTH),
        f"{vision}gated_positional_embedding_gate": (1,),
        "vision_model.vision_projection.weight": (WIDTH, VISION_WIDTH * (1 + len(COLLECTED))),
        "vision_model.vision_projection.bias": (WIDTH,),
        f"{text}tok_embeddings.weight": (VOCABULARY, WIDTH),
        f"{text}learnable_embedding.weight": (NEW, WIDTH),
        f"{text}norm.weight": (WIDTH,),
        f"{text}output.weight": (VOCABULARY, WIDTH),
    }
    for side in ("pre", "post"):
        found[f"{vision}{side}_tile_pos_embed.embedding"] = (TILES, TILES, 1, VISION_WIDTH)
        found[f"{vision}{side}_tile_pos_embed.gate"] = (1,)
        found |= {f"{vision}ln_{side}.{part}": (VISION_WIDTH,) for part in ("weight", "bias")}
    for stack, layers in (("transformer", VISION_LAYERS), ("global_transformer", GLOBAL_LAYERS)):
        for block in (f"{vision}{stack}.resblocks.{layer}." for layer in range(layers)):
            found |= {f"{block}attn.{part}.weight": (VISION_WIDTH, VISION_WIDTH) for part in ("wq", "wk", "wv", "wo")}
            found |= {f"{block}{norm}.{part}": (VISION_WIDTH,) for norm in ("ln_1", "ln_2") for part in ("weight", "bias")}
            found |= {f"{block}mlp.c_fc.weight": (VISION_MLP, VISION_WIDTH), f"{block}mlp.c_fc.bias": (VISION_MLP,)}
            found |= {f"{block}mlp.c_proj.weight": (VISION_WIDTH, VISION_MLP), f"{block}mlp.c_proj.bias": (VISION_WIDTH,)}
            found |= {f"{block}{gate}": (1,) for gate in ("gate_attn", "gate_ffn") if stack == "global_transformer"}
    for stack, layers in (("layers", LAYERS), ("cross_attention_layers", CROSS)):
        for block in (f"{text}{stack}.{layer}." for layer in range(layers)):
            found |= {f"{block}attention.{part}.weight": (WIDTH, WIDTH) for part in ("wq", "wo")}
            found |= {f"{block}attention.{part}.weight": (KEY_HEADS * HEAD, WIDTH) for part in ("wk", "wv")}
            found |= {f"{block}feed_forward.{part}.weight": (MLP, WIDTH) for part in ("w1", "w3")}
            found |= {f"{block}feed_forward.w2.weight": (WIDTH, MLP)}
            found |= {f"{block}{norm}.weight": (WIDTH,) for norm in ("attention_norm", "ffn_norm")}
            if stack == "cross_attention_layers":
                found |= {f"{block}attention.{norm}.weight": (HEAD,) for norm in ("q_norm", "k_norm")}
                found |= {f"{block}{gate}": (1,) for gate in ("gate_attn", "gate_ffwd")}
    return found


def random_weights(seed: int = 0) -> dict[str, torch.Tensor]:
    """Numbers that hide no mistake: every gate is open and has a value of its own, and norms are not 1."""
    generator, weights = torch.Generator().manual_seed(seed), {}
    for name, shape in shapes().items():
        value = 0.2 * torch.randn(shape, generator=generator)
        if "norm" in name or ".ln_" in name:
            value += name.endswith("weight")
        if name.endswith("gate") or ".gate_" in name:
            value = 0.4 + 0.8 * torch.rand(shape, generator=generator)
        weights[name] = value
    return weights


def schedule(layers: int, cross: int) -> list[int]:
    """Before which of the decoder's own layers a cross-attention layer stands: spread evenly, the last one before the last layer."""
    step = math.ceil(layers / cross)
    return sorted(range(layers - 1, -1, -step)[:cross])


def attend(queries, keys, values, mask):
    """``(length, heads, width)`` each, fewer heads of keys and values being shared by neighbours; ``mask`` is True where one may look."""
    shared = queries.shape[1] // keys.shape[1]
    keys, values = (each.repeat_interleave(shared, dim=1) for each in (keys, values))
    scores = torch.einsum("qhd,khd->hqk", queries, keys) / math.sqrt(queries.shape[-1])
    weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, values).flatten(1)


class Meta:
    """The model of a dictionary of tensors; a tensor is asked for by Meta's name of it."""

    def __init__(self, weights: dict[str, torch.Tensor]):
        self.weights = weights

    def linear(self, x, name):
        return F.linear(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))

    def layer_norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], 1e-5)

    def rms_norm(self, x, name):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weights[f"{name}.weight"]

    def swiglu(self, x, name):
        return self.linear(F.silu(self.linear(x, f"{name}.w1")) * self.linear(x, f"{name}.w3"), f"{name}.w2")

    def cut(self, name, grid):
        return self.weights[name][: grid[0], : grid[1]].flatten(0, 1)

    def tile_block(self, x, name, mask):
        gates = [self.weights[f"{name}.{gate}"].tanh() if "global" in name else 1 for gate in ("gate_attn", "gate_ffn")]
        normed = self.layer_norm(x, f"{name}.ln_1")
        heads = [self.linear(normed, f"{name}.attn.{part}").unflatten(-1, (VISION_HEADS, -1)) for part in ("wq", "wk", "wv")]
        x = x + gates[0] * self.linear(attend(*heads, mask), f"{name}.attn.wo")
        hidden = F.gelu(self.linear(self.layer_norm(x, f"{name}.ln_2"), f"{name}.mlp.c_fc"))
        return x + gates[1] * self.linear(hidden, f"{name}.mlp.c_proj")

    def see(self, pixels, grid):
        """The tiles of one picture, ``(4, 3, side, side)``, and its rows and columns -> what the decoder gets, ``(4 * tokens, width)``."""
        encoder, count = "vision_model.vision_encoder", grid[0] * grid[1]
        x = self.linear(F.unfold(pixels, PATCH, stride=PATCH).transpose(1, 2), f"{encoder}.conv1._linear")
        name = f"{encoder}.pre_tile_pos_embed"
        x[:count] += self.weights[f"{name}.gate"].tanh() * self.cut(f"{name}.embedding", grid)
        x = torch.cat([self.weights[f"{encoder}.class_embedding"].expand(TILES, 1, -1), x], dim=1)
        gate = self.weights[f"{encoder}.gated_positional_embedding_gate"].tanh()
        x = x + self.weights[f"{encoder}.positional_embedding"] * (1 - gate)
        x[:count] += gate * self.cut(f"{encoder}.gated_positional_embedding", grid)
        x = F.pad(self.layer_norm(x, f"{encoder}.ln_pre"), (0, 0, 0, -TOKENS % 8))
        empty = torch.ones(x.shape[:2], dtype=torch.bool)
        empty[:count, :TOKENS] = False
        mask, x, states = ~(empty.flatten()[:, None] & empty.flatten()), x.flatten(0, 1), []
        for layer in range(VISION_LAYERS):
            if layer in COLLECTED:
                states.append(x)
            x = self.tile_block(x, f"{encoder}.transformer.resblocks.{layer}", mask)
        x, name = self.layer_norm(x, f"{encoder}.ln_post").unflatten(0, (TILES, -1)), f"{encoder}.post_tile_pos_embed"
        x = x.clone()
        x[:count] += self.weights[f"{name}.gate"].tanh() * self.cut(f"{name}.embedding", grid)
        x = x.flatten(0, 1)
        for layer in range(GLOBAL_LAYERS):
            x = self.tile_block(x, f"{encoder}.global_transformer.resblocks.{layer}", mask)
        x = torch.cat([x, torch.stack(states, dim=-1).flatten(1)], dim=-1)
        return self.linear(x.unflatten(0, (TILES, -1))[:, :TOKENS].flatten(0, 1), "vision_model.vision_projection")

    def own_layer(self, x, name, turns):
        normed = self.rms_norm(x, f"{name}.attention_norm")
        queries, keys, values = (self.linear(normed, f"{name}.attention.{part}").unflatten(-1, (-1, HEAD)) for part in ("wq", "wk", "wv"))
        queries, keys = (
            torch.view_as_real(torch.view_as_complex(each.unflatten(-1, (-1, 2))) * turns[:, None]).flatten(2) for each in (queries, keys)
        )
        causal = torch.ones(len(x), len(x), dtype=torch.bool).tril()
        x = x + self.linear(attend(queries, keys, values, causal), f"{name}.attention.wo")
        return x + self.swiglu(self.rms_norm(x, f"{name}.ffn_norm"), f"{name}.feed_forward")

    def cross_layer(self, x, name, pictures, visible):
        queries = self.linear(self.rms_norm(x, f"{name}.attention_norm"), f"{name}.attention.wq").unflatten(-1, (-1, HEAD))
        keys, values = (self.linear(pictures, f"{name}.attention.{part}").unflatten(-1, (-1, HEAD)) for part in ("wk", "wv"))
        queries, keys = self.rms_norm(queries, f"{name}.attention.q_norm"), self.rms_norm(keys, f"{name}.attention.k_norm")
        sees = visible.any(-1, keepdim=True)
        look = attend(queries, keys, values, visible) * sees
        x = x + self.weights[f"{name}.gate_attn"].tanh() * self.linear(look, f"{name}.attention.wo")
        thought = self.swiglu(self.rms_norm(x, f"{name}.ffn_norm"), f"{name}.feed_forward") * sees
        return x + self.weights[f"{name}.gate_ffwd"].tanh() * thought

    def __call__(self, ids, pictures, visible):
        """Ids of one text, its pictures as ``(tiles, grid)``, and which tiles each token sees, ``(length, images, 4)`` -> logits."""
        states = torch.cat([self.see(*picture) for picture in pictures])
        visible = visible.flatten(1).repeat_interleave(TOKENS, dim=1)
        turns = torch.polar(torch.ones(()), torch.arange(len(ids)).float()[:, None] * frequencies())
        new = (ids >= VOCABULARY)[:, None]
        old = self.weights["text_model.tok_embeddings.weight"][ids.clamp(max=VOCABULARY - 1)]
        x = torch.where(new, self.weights["text_model.learnable_embedding.weight"][(ids - VOCABULARY).clamp(min=0)], old)
        before = schedule(LAYERS, CROSS)
        for layer in range(LAYERS):
            if layer in before:
                x = self.cross_layer(x, f"text_model.cross_attention_layers.{before.index(layer)}", states, visible)
            x = self.own_layer(x, f"text_model.layers.{layer}", turns)
        return self.linear(self.rms_norm(x, "text_model.norm"), "text_model.output")


def frequencies():
    """Radians per position, the slow ones slowed down as in Llama 3.1."""
    frequencies = []
    for pair in range(HEAD // 2):
        plain = BASE ** (-2 * pair / HEAD)
        turns = ORIGINAL * plain / (2 * math.pi)
        amount = min(max((turns - LOW) / (HIGH - LOW), 0), 1)
        frequencies.append((1 - amount) * plain / FACTOR + amount * plain)
    return torch.tensor(frequencies)
