"""Exercise of lesson 11, to be built by oneself: the forward pass of a language model that sees, from its parts."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from einops import rearrange
from torch import Tensor, nn

from minimllm.models.language_model import LanguageModel
from minimllm.models.language_model_config import LanguageModelConfig
from minimllm.models.vit import ViT
from minimllm.models.vit_config import ViTConfig

from . import Exercise, Wrong
from .places import Parts, compare_forward


def small_parts(
    seed: int, image_size: tuple[int, int], merge: int, language: LanguageModelConfig, image_token_id: int, **vision: int
) -> Parts:
    """Small random models, in which nothing hides: their norms' weights are none of them 1, the encoder's positions large."""
    encoder = ViT(ViTConfig(image_size, 2, 2, 6, 2, 2, 10, classes=0, class_token=False, **vision), seed)
    linear, talker = nn.Linear(6 * merge**2, language.dim, bias=False), LanguageModel(language, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in (encoder, linear, talker):
            for name, parameter in module.named_parameters():
                parameter.normal_(float("norm" in name and name.endswith("weight")), 0.4, generator=generator)
    return Parts(encoder.eval(), linear, talker.eval(), image_token_id, merge)


def forward_cases() -> list[tuple]:
    generator = torch.Generator().manual_seed(13)
    tied = LanguageModelConfig(30, 8, 2, 4, 12, key_value_heads=2, rotary_base=100.0, tied=True)
    cases = []
    for parts, rows, pictures in (
        # a grid of 2 x 8 in squares of 2: four tokens a picture, as a square grid of as many patches would have
        (small_parts(1, (4, 16), 2, tied, 5), [[1, 5, 5, 5, 5, 7, 8, 9, 3, 6], [1, 9, 0, 5, 5, 5, 5, 4, 2, 2]], 2),
        # one token a picture; two in a row, a row of text alone
        (small_parts(2, (8, 8), 4, replace(tied, layers=3, tied=False), 21), [[1, 21, 4, 21, 6], [2, 8, 3, 9, 7]], 2),
        # a grid of 3 x 2, nothing merged
        (small_parts(3, (6, 4), 1, replace(tied, vocab_size=12), 0), [[4, 0, 0, 0, 0, 0, 0, 11, 2]], 1),
    ):
        images = torch.randn(pictures, 2, *parts.vision.config.size, generator=generator)
        cases.append((torch.tensor(rows), images, *parts))
    return cases


def joined(patches: Tensor, grid: tuple[int, int], merge: int, *, pattern: str = "b (r m c n) d -> b (r c) (m n d)") -> Tensor:
    return rearrange(patches, pattern, r=grid[0] // merge, c=grid[1] // merge, m=merge, n=merge)


def unified_forward(
    ids: Tensor,
    images: Tensor,
    vision: ViT,
    linear: nn.Linear,
    language_model: LanguageModel,
    image_token_id: int,
    merge: int,
    *,
    encode: Callable[[ViT, Tensor], Tensor] = lambda vision, images: vision.encode(images),
    grid: Callable[[tuple[int, int]], tuple[int, int]] = lambda grid: grid,
    shuffle: Callable[..., Tensor] = joined,
    into: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda words, is_image, tokens: words.masked_scatter(is_image[..., None], tokens),
    decode: Callable[[LanguageModel, Tensor], Tensor] = lambda language_model, x: language_model.decode(x),
) -> Tensor:
    """The forward pass of the unified design, with what people get wrong as options."""
    tokens = linear(shuffle(encode(vision, images), grid(vision.config.grid), merge))
    x = into(language_model.tokens(ids), ids == image_token_id, tokens)
    return language_model.head(decode(language_model, x))


def through(language_model: LanguageModel, x: Tensor, *, masked: bool = True, turned: bool = True, norms: int = 1) -> Tensor:
    attend, rotary = language_model.prepare(x)
    still = torch.ones_like(rotary[0]), torch.zeros_like(rotary[1])
    for block in language_model.blocks:
        x = block(x, attend if masked else None, rotary if turned else still)
    for _ in range(norms):
        x = language_model.norm(x)
    return x


def without_the_last_norm(vision: ViT, images: Tensor) -> Tensor:
    x = vision.positions(vision.patches(images), grid=vision.config.grid)
    for block in vision.blocks:
        x = block(x)
    return x


def transposed(words: Tensor, is_image: Tensor, tokens: Tensor) -> Tensor:
    """The pictures' tokens by turns: the first of each, then the second of each."""
    return words.masked_scatter(is_image[..., None], tokens.transpose(0, 1))


UNIFIED_FORWARD = Exercise(
    reference=unified_forward,
    cases=forward_cases,
    told=lambda function, case: compare_forward(function, Parts(*case[2:]), *case[:2], lambda: unified_forward(*case)),
    mistakes=dict(
        picture_ignored=Wrong(partial(unified_forward, into=lambda words, is_image, tokens: words)).hint("""
            The pictures change nothing: the placeholders still have their own embeddings from the table. Put the visual tokens there."""),
        added=Wrong(
            partial(
                unified_forward,
                into=lambda words, is_image, tokens: words + torch.zeros_like(words).masked_scatter(is_image[..., None], tokens),
            )
        ).hint("The visual tokens are added to the placeholders' embeddings. They take their place."),
        pictures_backwards=Wrong(
            partial(unified_forward, into=lambda words, is_image, tokens: words.masked_scatter(is_image[..., None], tokens.flip(0))),
            tokens_backwards=partial(
                unified_forward, into=lambda words, is_image, tokens: words.masked_scatter(is_image[..., None], tokens.flip(1))
            ),
            by_turns=partial(unified_forward, into=transposed),
        ).hint("""
            The visual tokens are in another order. They go into the placeholders in reading order: all of the first picture, then all of
            the second."""),
        only_reshaped=Wrong(
            partial(unified_forward, shuffle=lambda patches, grid, merge: patches.reshape(len(patches), -1, patches.shape[2] * merge**2))
        ).hint("""
            The patches are merged by a reshape alone, which joins such as follow one another in a line of the picture. A square of them
            comes from several lines: rearrange 'b (rows m columns n) d -> b (rows columns) (m n d)'."""),
        columns_first=Wrong(partial(unified_forward, shuffle=partial(joined, pattern="b (r m c n) d -> b (r c) (n m d)"))).hint("""
            Within a square of patches you go down the columns. They are joined row by row."""),
        channels_first=Wrong(partial(unified_forward, shuffle=partial(joined, pattern="b (r m c n) d -> b (r c) (d m n)"))).hint("""
            Of a square you take the first number of all patches, then the second. Here a patch stays together: (m n d)."""),
        a_square_grid=Wrong(
            partial(unified_forward, grid=lambda grid: (int((grid[0] * grid[1]) ** 0.5),) * 2 if grid[1] % 4 == 0 else grid)
        ).hint("""
            You take the grid for a square one. vision.config.grid says how many rows and columns of patches there are."""),
        without_the_encoders_norm=Wrong(partial(unified_forward, encode=without_the_last_norm)).hint("""
            The encoder's last norm is missing. vision.encode(images) has it."""),
        without_the_decoders_norm=Wrong(partial(unified_forward, decode=partial(through, norms=0))).hint("""
            The decoder's last norm is missing: language_model.norm stands between the last block and the head."""),
        norm_twice=Wrong(partial(unified_forward, decode=partial(through, norms=2))).hint("""
            The decoder's last norm is applied twice. language_model.decode ends with it already."""),
        no_mask=Wrong(
            partial(unified_forward, decode=partial(through, masked=False)),
            _nor_positions=partial(unified_forward, decode=partial(through, masked=False, turned=False)),
        ).hint("""
            Words see what comes after them: the causal mask is missing. language_model.decode(x) makes it, and the rotary angles."""),
        no_positions=Wrong(partial(unified_forward, decode=partial(through, turned=False))).hint("""
            No token knows where it stands: the rotary angles are missing. language_model.decode(x) makes them, and the mask."""),
        no_blocks=Wrong(partial(unified_forward, decode=lambda language_model, x: language_model.norm(x))).hint("""
            The embeddings go straight to the head: language_model.decode(x) takes them through the blocks."""),
    ),
    afterthought="Something to think of: which of these parts has seen pictures and texts together in training?",
)

EXERCISES = {"unified_forward": UNIFIED_FORWARD}
