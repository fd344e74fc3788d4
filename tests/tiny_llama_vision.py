"""A tiny Llama 3.2 Vision of transformers with open gates, the same model as Meta's code would compute it, and inputs for both."""

from functools import cache

import numpy as np
import torch
from PIL import Image
from support import randomise
from transformers import MllamaConfig, MllamaForConditionalGeneration
from transformers.models.mllama.configuration_mllama import MllamaTextConfig, MllamaVisionConfig

from minimllm import cross_attention_mask, prepare_tiles

IMAGE = 99
TILE = 16
VISION = dict(
    hidden_size=32,
    num_hidden_layers=5,
    num_global_layers=2,
    attention_heads=4,
    intermediate_size=48,
    vision_output_dim=96,
    image_size=TILE,
    patch_size=4,
    intermediate_layers_indices=[1, 3],
)
TEXT = dict(
    vocab_size=IMAGE,
    hidden_size=32,
    num_hidden_layers=5,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=48,
    cross_attention_layers=[1, 4],
    max_position_embeddings=128,
    pad_token_id=0,
    bos_token_id=2,
    eos_token_id=1,
    rope_parameters={
        "rope_type": "llama3",
        "rope_theta": 500.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
)


def theirs(reference="transformers", attention="eager", vision=(), text=()):
    """Random weights. For ``meta``: states collected before the blocks, and no attention for a token that sees no picture."""
    vision, text = {**VISION, **dict(vision)}, {**TEXT, **dict(text)}
    if reference == "meta":  # what goes into a block is what comes out of the one before
        vision["intermediate_layers_indices"] = [index - 1 for index in vision["intermediate_layers_indices"]]
    config = MllamaConfig(vision_config=MllamaVisionConfig(**vision), text_config=MllamaTextConfig(**text), image_token_index=IMAGE)
    model = MllamaForConditionalGeneration._from_config(config, attn_implementation=attention)
    randomise(model)
    if reference == "meta":
        for layer in model.model.language_model.layers:
            if hasattr(layer, "cross_attn"):
                silence(layer)
    return model


def silence(layer):
    """Multiply the attention's output by the mask of rows that see a picture, as Meta's code does."""
    rows = {}

    def remember(module, args, kwargs):
        rows["mask"] = kwargs["full_text_row_masked_out_mask"]

    def multiply(module, args, kwargs, output):
        return (output[0] * rows["mask"][:, 0], *output[1:])

    layer.register_forward_pre_hook(remember, with_kwargs=True)
    layer.cross_attn.register_forward_hook(multiply, with_kwargs=True)


@cache
def picture(height, width, seed=0):
    generator = np.random.default_rng(seed + 100 * height + width)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


ONE, TWO, FOUR, TALL, WIDE = picture(10, 12), picture(12, 30), picture(30, 28), picture(60, 10), picture(9, 64)


def batch(*rows, side="right", pad=0, length=None, seed=0):
    """Ids, mask and tiles from ``(text, pictures)``; a text is written with I for a picture and t for a word.

    Rows are padded to one length on ``side``; pictures are cut for the tiny model.
    """
    generator = torch.Generator().manual_seed(seed)
    texts = [text.replace(" ", "") for text, _ in rows]
    length = length or max(map(len, texts))
    ids, mask = torch.full((len(rows), length), pad), torch.zeros(len(rows), length, dtype=torch.long)
    for row, text in enumerate(texts):
        start = 0 if side == "right" else length - len(text)
        words = torch.randint(3, IMAGE, (len(text),), generator=generator)
        ids[row, start : start + len(text)] = torch.where(torch.tensor([letter == "I" for letter in text]), IMAGE, words)
        mask[row, start : start + len(text)] = 1
    return ids, mask, prepare_tiles([list(pictures) for _, pictures in rows], TILE)


def inputs_of(ids, mask, tiles):
    """The same as transformers takes it."""
    inputs = dict(input_ids=ids, attention_mask=mask)
    if tiles is not None:
        visible = cross_attention_mask(ids, tiles.num_tiles, IMAGE)
        names = ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask")
        inputs |= dict(cross_attention_mask=visible.long(), **{name: getattr(tiles, name) for name in names})
    return inputs
