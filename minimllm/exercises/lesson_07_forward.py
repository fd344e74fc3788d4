"""Exercise of lesson 07, to be built by oneself: the forward pass of a decoder with gated cross-attention blocks, from its parts."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from minimllm.models.cross_attention import CrossAttentionMLLM
from minimllm.models.cross_attention_config import CrossAttentionConfig
from minimllm.models.language_model import LanguageModel
from minimllm.models.language_model_config import LanguageModelConfig
from minimllm.models.projector import Projector
from minimllm.models.vit_config import ViTConfig

from . import Exercise, Wrong
from .lesson_06_forward import scattered
from .places import GatedParts, compare_forward, parts_of

IMAGE = 5


def small_model(seed: int, image_size: tuple[int, int], before: tuple[int, ...], layers: int = 3, **changes: bool) -> CrossAttentionMLLM:
    vision = ViTConfig(image_size, 2, 2, 6, 2, 2, 10, classes=0)
    language = LanguageModelConfig(30, 8, layers, 4, 12, key_value_heads=2, rotary_base=100.0, tied=True)
    config = CrossAttentionConfig(vision, language, IMAGE, before, merge=2, projector_dim=10, projector_positions="both", **changes)
    return scattered(CrossAttentionMLLM(config, seed), seed)


def forward_cases() -> list[tuple]:
    generator = torch.Generator().manual_seed(7)
    cases = []
    for model, rows in (
        # two rows, each with its picture at another place; gated blocks before the first and the third of three
        (small_model(1, (4, 12), (0, 2), cross_mlp=False), [[1, IMAGE, 7, 9, 3, 8], [1, 9, 0, IMAGE, 4, 2]]),
        # as many words as the picture has tokens; one gated block, before the second
        (small_model(2, (8, 8), (1,)), [[6, IMAGE, 4, 2], [IMAGE, 8, 3, 9], [1, 7, IMAGE, 0]]),
        (small_model(3, (4, 4), (0, 1), layers=2), [[4, 3, IMAGE, 11, 2]]),
    ):
        features = torch.randn(len(rows), model.visual_tokens, model.config.unified.feature_dim, generator=generator)
        cases.append((torch.tensor(rows), features, *parts_of(model)))
    return cases


def from_its_token_on(is_image: Tensor) -> Tensor:
    return is_image.cumsum(dim=1) > 0


def gated_forward(
    ids: Tensor,
    features: Tensor,
    projector: Projector,
    language_model: LanguageModel,
    cross_blocks: nn.ModuleList,
    cross_before: tuple[int, ...],
    image_token_id: int,
    *,
    shown: Callable[[Tensor], Tensor] = lambda tokens: tokens,
    sees: Callable[[Tensor], Tensor] | None = from_its_token_on,
    before: Callable[[tuple[int, ...]], tuple[int, ...]] = lambda cross_before: cross_before,
    after: bool = False,
    block_of: Callable[[int], int] = lambda number: number,
    words: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda x, is_image, tokens: x,
    masked: bool = True,
    turned: bool = True,
    norms: int = 1,
) -> Tensor:
    """The forward pass of lesson 07's model for rows with one picture each, with what people get wrong as options."""
    tokens, is_image = shown(projector(features)), ids == image_token_id
    visible = None if sees is None else sees(is_image)[..., None].expand(-1, -1, tokens.shape[1])
    x = words(language_model.tokens(ids), is_image, tokens)
    attend, rotary = language_model.prepare(x)
    still = torch.ones_like(rotary[0]), torch.zeros_like(rotary[1])
    places = before(cross_before)

    def look(index: int, x: Tensor) -> Tensor:
        return cross_blocks[block_of(places.index(index))](x, tokens, visible) if index in places else x

    for index, block in enumerate(language_model.blocks):
        x = x if after else look(index, x)
        x = block(x, attend if masked else None, rotary if turned else still)
        x = look(index, x) if after else x
    for _ in range(norms):
        x = language_model.norm(x)
    return language_model.head(x)


def spliced(x: Tensor, is_image: Tensor, tokens: Tensor) -> Tensor:
    return torch.where(is_image[..., None], tokens.mean(dim=1, keepdim=True), x)


GATED_FORWARD = Exercise(
    reference=gated_forward,
    cases=forward_cases,
    told=lambda function, case: compare_forward(function, GatedParts(*case[2:]), *case[:2], lambda: gated_forward(*case)),
    mistakes=dict(
        no_looks=Wrong(partial(gated_forward, before=lambda cross_before: ())).hint("""
            The gated blocks are never called: this is the language model alone, and the pictures change nothing."""),
        looks_after=Wrong(partial(gated_forward, after=True)).hint("""
            The gated blocks come after the blocks that cross_before names. They stand before them: block 0 is looked into first."""),
        counted_from_one=Wrong(partial(gated_forward, before=lambda cross_before: tuple(index - 1 for index in cross_before))).hint(
            "cross_before counts the decoder's blocks from 0: a gated block with 0 stands before the first."
        ),
        the_first_ones=Wrong(partial(gated_forward, before=lambda cross_before: tuple(range(len(cross_before))))).hint("""
            You put the gated blocks before the first of the decoder's blocks. cross_before says which: number k of the gated blocks stands
            before block cross_before[k]."""),
        always_the_first=Wrong(partial(gated_forward, block_of=lambda number: 0)).hint("""
            The first gated block is used everywhere. Each has its own weights: number k stands before block cross_before[k]."""),
        everyone_sees=Wrong(partial(gated_forward, sees=None)).hint("""
            Words before the image token see the picture too. A word sees the picture from its token on:
            (ids == image_token_id).cumsum(dim=1) > 0."""),
        the_token_blind=Wrong(partial(gated_forward, sees=lambda is_image: is_image.cumsum(dim=1) - is_image.long() > 0)).hint("""
            The image token itself sees nothing. It sees its picture, and so do all words behind it."""),
        the_token_alone=Wrong(partial(gated_forward, sees=lambda is_image: is_image)).hint("""
            Only the image token sees the picture. All words behind it do as well."""),
        the_wrong_way_round=Wrong(partial(gated_forward, sees=lambda is_image: is_image.cumsum(dim=1) == 0)).hint("""
            The mask is the wrong way round: True is where a word may look."""),
        pictures_exchanged=Wrong(partial(gated_forward, shown=lambda tokens: tokens.flip(0))).hint("""
            The rows look at each other's pictures. The pictures come in the order of the rows."""),
        mean_of_the_picture=Wrong(partial(gated_forward, shown=lambda tokens: tokens.mean(dim=1, keepdim=True))).hint("""
            The words see the mean of the picture's tokens. They are to see each of them: where in the picture something is, is lost
            in the mean."""),
        also_in_the_text=Wrong(partial(gated_forward, words=spliced)).hint("""
            The image token's embedding was replaced by the picture. In this design it stays a word like any other."""),
        no_mask=Wrong(
            partial(gated_forward, masked=False),
            _nor_positions=partial(gated_forward, masked=False, turned=False),
        ).hint("""Words see the words after them: the causal mask is missing in the decoder's own blocks. attend, rotary =
            language_model.prepare(x); block(x, attend, rotary)."""),
        no_positions=Wrong(partial(gated_forward, turned=False)).hint("""
            No word knows where it stands: the rotary angles are missing in the decoder's own blocks. attend, rotary =
            language_model.prepare(x); block(x, attend, rotary)."""),
        no_norm=Wrong(partial(gated_forward, norms=0)).hint("""
            The decoder's last norm is missing: language_model.norm stands between the last block and the head."""),
        norm_twice=Wrong(partial(gated_forward, norms=2)).hint("The decoder's last norm is applied twice."),
    ),
    afterthought="Something to think of: what would you have to change for rows with two pictures, or with none?",
)

EXERCISES = {"gated_forward": GATED_FORWARD}
