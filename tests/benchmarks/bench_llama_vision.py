"""Llama 3.2 Vision beside transformers: a part of its image encoder at the true size, and on a GPU the whole 11B model.

Both have the same random weights, in the same memory, and get the same picture of four tiles of 560 pixels.

First the encoder in float32, with one block of each of its two stacks instead of 32 and 8: embedding, the mask over 6432 tokens, the
blocks, and a result of 2 x 1280 numbers for each token. On a processor its time in this process is counted, because a pass takes seconds,
in which other programs run. Target: no more than transformers needs.

Then, on a GPU with room enough, the whole model in bfloat16: seconds to the first token of an answer, and tokens a second behind it.

python tests/benchmarks/bench_llama_vision.py            one block of each stack, and the whole model if there is a GPU
python tests/benchmarks/bench_llama_vision.py 32 8       all blocks of the encoder; minutes for each pass on a processor
"""

import os
import statistics
import sys
import time
from functools import partial

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from paired import matmul_rate, paired, report
from torch import Tensor, nn
from transformers import MllamaConfig, MllamaForConditionalGeneration, MllamaVisionModel
from transformers.models.mllama.modeling_mllama import MllamaRotaryEmbedding

from minimllm import cross_attention_mask, generate
from minimllm.models.language_model_config import LanguageModelConfig
from minimllm.models.llama_vision.config import LlamaVisionConfig, config_to_transformers
from minimllm.models.llama_vision.model import LlamaVision
from minimllm.models.llama_vision.names import file_shapes, weight_names
from minimllm.models.llama_vision.tiles import Tiles
from minimllm.models.llama_vision.vision import TileEncoderConfig
from minimllm.weights.pretrained import file_names

NEEDED = 32 * 2**30  # bytes: 21.4e9 of weights, and the activations of an image in the encoder


@torch.no_grad()
def random_model(config: LlamaVisionConfig, device: str, dtype: torch.dtype) -> LlamaVision:
    """Random weights, made where they stay, so that they are in memory once; all gates are half open."""
    with torch.device("meta"):
        model = LlamaVision(config)
    model = model.to(dtype).to_empty(device=device).eval().requires_grad_(False)
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if name.endswith("gate"):
            parameter.fill_(0.5)
        elif "norm" in name:
            parameter.fill_(float(name.endswith("weight")))
        else:
            parameter.normal_(std=0.02)
    return model


def share_weights(ours: LlamaVision, theirs: nn.Module, prefix: str = "") -> nn.Module:
    """Let theirs, built on the meta device, use our weights; ``prefix`` is where they stand in the whole model."""
    table, shapes = weight_names(ours.config), file_shapes(ours.config)
    expected, weights = theirs.state_dict(), {}
    for name, value in ours.named_parameters():
        for candidate in file_names(name, table):
            if candidate.startswith(prefix) and candidate.removeprefix(prefix) in expected:
                weights[candidate.removeprefix(prefix)] = value.view(shapes.get(name, value.shape))
    theirs.load_state_dict(weights, assign=True)  # an error if one is missing
    return theirs.eval().requires_grad_(False)


def their_config(config: LlamaVisionConfig) -> MllamaConfig:
    theirs = MllamaConfig.from_dict(config_to_transformers(config))
    for part in (theirs, theirs.vision_config, theirs.text_config):
        part._attn_implementation = "sdpa"
    return theirs


def their_model(ours: LlamaVision) -> MllamaForConditionalGeneration:
    config, weight = their_config(ours.config), ours.projector.weight
    with torch.device("meta"):
        theirs = MllamaForConditionalGeneration(config).to(weight.dtype)
    theirs.model.language_model.rotary_emb = MllamaRotaryEmbedding(config.text_config).to(weight.device)  # no weight, so still meta
    return share_weights(ours, theirs)


def one_picture(vision: TileEncoderConfig, device: str, dtype: torch.dtype) -> Tiles:
    """Four tiles in two rows, full of noise."""
    pixels = torch.randn(1, 1, vision.max_tiles, vision.channels, vision.tile_size, vision.tile_size, device=device, dtype=dtype)
    ids = torch.full((1, 1), 6, device=device)
    return Tiles(pixels, ids, torch.ones(1, 1, vision.max_tiles, dtype=torch.long, device=device), [[vision.max_tiles]])


def tile_arguments(tiles: Tiles) -> dict[str, Tensor]:
    return {name: getattr(tiles, name) for name in ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask")}


def encoder_operations(vision: TileEncoderConfig) -> float:
    """Two operations for each multiply-add of the matrix products of one forward pass, padding included, as both compute it."""
    length = vision.max_tiles * (vision.tokens + -vision.tokens % 8)
    block = length * (4 * vision.dim**2 + 2 * vision.dim * vision.mlp_dim + 2 * length * vision.dim)
    patches = vision.max_tiles * (vision.tokens - 1) * vision.channels * vision.patch_size**2 * vision.dim
    return 2 * ((vision.layers + vision.global_layers) * block + patches)


def encoder(layers: int, global_layers: int, rounds: int, vision: TileEncoderConfig | None = None) -> None:
    """The image encoder alone; its decoder is of the smallest size, and not run."""
    collected = tuple(number for number in (3, 7, 15, 23, 30) if number < layers) or (layers - 1,)
    vision = vision or TileEncoderConfig(layers=layers, global_layers=global_layers, collected=collected)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = LlamaVisionConfig(vision, LanguageModelConfig.tiny(8, tied=False), (1,), image_token_id=8, reference="transformers")
    ours = random_model(config, device, torch.float32)
    with torch.device("meta"):
        theirs = MllamaVisionModel(their_config(config).vision_config)
    theirs = share_weights(ours, theirs, "model.vision_model.")
    tiles = one_picture(vision, device, torch.float32)
    contestants = {"minimllm": partial(ours.features, tiles), "transformers": partial(theirs, **tile_arguments(tiles))}
    with torch.inference_mode():
        difference = (contestants["minimllm"]() - contestants["transformers"]().last_hidden_state).abs().max().item()
        assert difference < 1e-3, f"the two encoders differ by {difference}"
        clock = time.process_time if device == "cpu" else time.perf_counter
        seconds = paired(contestants, rounds, warm_up=0, clock=clock)  # the comparison has warmed them up
    rate = matmul_rate(clock=clock) if device == "cpu" else None
    title = f"image encoder, {layers} + {global_layers} blocks, four tiles of {vision.tile_size} pixels, {device}, float32"
    report(title, seconds, "minimllm", encoder_operations(vision), rate)


def whole(config: LlamaVisionConfig, device: str, dtype: torch.dtype, prompt: int = 32, new: int = 64, rounds: int = 5) -> None:
    """A picture and a question of ``prompt`` tokens, answered in ``new`` tokens by both."""
    ours = random_model(config, device, dtype)
    theirs = their_model(ours)
    tiles = one_picture(config.vision, device, dtype)
    ids = torch.randint(3, config.language.vocab_size, (1, prompt), device=device)
    ids[:, 1] = config.image_token_id
    visible = cross_attention_mask(ids, tiles.num_tiles, config.image_token_id, config.vision.max_tiles).long()
    settings = dict(do_sample=False, eos_token_id=None, pad_token_id=0, attention_mask=torch.ones_like(ids), cross_attention_mask=visible)
    ways = {
        "minimllm": lambda tokens: generate(ours, ids, tokens, tiles=tiles),
        "transformers": lambda tokens: theirs.generate(ids, max_new_tokens=tokens, **settings, **tile_arguments(tiles)),
    }
    texts = [way(new)[:, prompt:] for way in ways.values()]
    print(f"\nof {new} tokens both wrote {(texts[0] == texts[1]).sum().item()} alike; random weights in {dtype} may tip a close choice")
    weights = sum(parameter.numel() for parameter in ours.parameters())
    title = f"{weights:,} parameters on {device}, {dtype}: four tiles and {prompt} tokens, greedily"
    first = paired({name: partial(way, 1) for name, way in ways.items()}, rounds)
    report(f"{title}: the first token", first, "minimllm")
    everything = paired({name: partial(way, new) for name, way in ways.items()}, rounds)
    report(f"{title}: {new} tokens", everything, "minimllm")
    for name in ways:
        behind = statistics.median(everything[name]) - statistics.median(first[name])
        print(f"  {name:<28}{statistics.median(first[name]):>8.3f} s to the first token, then{(new - 1) / behind:>8.1f} tokens/s")


if __name__ == "__main__":
    layers, global_layers = map(int, sys.argv[1:] or (1, 1))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    encoder(layers, global_layers, rounds=3)
    if torch.cuda.is_available() and torch.cuda.mem_get_info()[0] >= NEEDED:
        whole(LlamaVisionConfig.llama_3_2_11b(reference="transformers"), "cuda", torch.bfloat16)
    else:
        print(f"\nskipped: the whole 11B model, which needs a GPU with {NEEDED // 2**30} GiB of free memory")
