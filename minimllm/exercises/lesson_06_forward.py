"""Exercise of lesson 06, to be built by oneself: the forward pass of the course's unified model, from its parts."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from minimllm.models.language_model import LanguageModel
from minimllm.models.language_model_config import LanguageModelConfig
from minimllm.models.projector import Projector
from minimllm.models.unified import UnifiedMLLM
from minimllm.models.unified_config import UnifiedConfig
from minimllm.models.vit import ViT
from minimllm.models.vit_config import ViTConfig

from . import Exercise, Wrong
from .places import CourseParts, compare_forward, parts_of

IMAGE = 5


@torch.no_grad()
def scattered(model: nn.Module, seed: int) -> nn.Module:
    """Random weights in which nothing hides: norms that are none of them 1, positions and gates that are not small."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        parameter.normal_(float("norm" in name and name.endswith("weight")), 0.4, generator=generator)
    return model.eval()


def small_model(seed: int, image_size: tuple[int, int], merge: int) -> UnifiedMLLM:
    vision = ViTConfig(image_size, 2, 2, 6, 3, 2, 10, classes=0)
    language = LanguageModelConfig(30, 8, 2, 4, 12, key_value_heads=2, rotary_base=100.0, normalise_heads=1e-5, tied=True)
    ours = dict(merge=merge, normalise_features=True, projector_dim=10, projector_positions="both", token_scale=0.3, shared_position=True)
    return scattered(UnifiedMLLM(UnifiedConfig(vision, language, IMAGE, **ours), seed), seed)


def forward_cases() -> list[tuple]:
    generator = torch.Generator().manual_seed(6)
    i = IMAGE
    cases = []
    for model, rows, pictures in (
        # a grid of 4 x 8 in squares of 2: eight tokens a picture; two rows, each with its picture at another place
        (small_model(1, (8, 16), 2), [[1, *[i] * 8, 7, 9, 3], [1, 9, 0, *[i] * 8, 4]], 2),
        # two pictures side by side, and apart; a row of text alone
        (small_model(2, (4, 8), 2), [[1, i, i, i, i, 6, 7], [2, i, i, 3, i, i, 8], [1, 8, 3, 9, 7, 4, 2]], 4),
        # nothing merged
        (small_model(3, (6, 4), 1), [[4, *[i] * 6, 11, 2]], 1),
    ):
        cases.append((torch.tensor(rows), torch.randn(pictures, 2, *model.config.vision.size, generator=generator), *parts_of(model)))
    return cases


def without_class_token(patches: Tensor) -> Tensor:
    return patches[:, 1:]


def normalised(patches: Tensor) -> Tensor:
    return F.rms_norm(patches, patches.shape[-1:])


def joined(patches: Tensor, grid: tuple[int, int], merge: int, *, pattern: str = "b (r m c n) d -> b (r c) (m n d)") -> Tensor:
    return rearrange(patches, pattern, r=grid[0] // merge, c=grid[1] // merge, m=merge, n=merge)


def put(words: Tensor, is_image: Tensor, tokens: Tensor) -> Tensor:
    return words.masked_scatter(is_image[..., None], tokens)


def shared_positions(is_image: Tensor, tokens: int) -> Tensor:
    """A picture's tokens count once, at its first."""
    counted = is_image.cumsum(dim=1) - 1
    return (~is_image | (counted % tokens == 0)).cumsum(dim=1) - 1


def one_for_each_run(is_image: Tensor, tokens: int) -> Tensor:
    return (~is_image | ~F.pad(is_image, (1, -1))).cumsum(dim=1) - 1


def llava_forward(
    ids: Tensor,
    images: Tensor,
    vision: ViT,
    projector: Projector,
    language_model: LanguageModel,
    image_token_id: int,
    merge: int,
    *,
    leave_out: Callable[[Tensor], Tensor] = without_class_token,
    normalise: Callable[[Tensor], Tensor] = normalised,
    join: Callable[..., Tensor] = joined,
    into: Callable[[Tensor, Tensor, Tensor], Tensor] = put,
    positions: Callable[[Tensor, int], Tensor] | None = shared_positions,
    attend: Callable[[Tensor], Tensor] | None = None,
    end: Callable[[LanguageModel, Tensor], Tensor] = lambda language_model, x: language_model.head(x),
) -> Tensor:
    """The forward pass of lesson 06's model, with what people get wrong as options."""
    tokens = projector(join(normalise(leave_out(vision.encode(images))), vision.config.grid, merge))
    is_image = ids == image_token_id
    x = into(language_model.tokens(ids), is_image, tokens)
    where = None if positions is None else positions(is_image, tokens.shape[1])
    return end(language_model, language_model.decode(x, attend=None if attend is None else attend(x), positions=where))


def first_tokens(patches: Tensor) -> Tensor:
    """The class token stays and the last patch goes: as many tokens, all in the wrong places."""
    return patches[:, :-1]


LLAVA_FORWARD = Exercise(
    reference=llava_forward,
    cases=forward_cases,
    told=lambda function, case: compare_forward(function, CourseParts(*case[2:]), *case[:2], lambda: llava_forward(*case)),
    mistakes=dict(
        picture_ignored=Wrong(partial(llava_forward, into=lambda words, is_image, tokens: words)).hint("""
            The pictures change nothing: the placeholders still have their own embeddings. Put the visual tokens in their places."""),
        added=Wrong(
            partial(llava_forward, into=lambda words, is_image, tokens: words + put(torch.zeros_like(words), is_image, tokens))
        ).hint("The visual tokens are added to the placeholders' embeddings. They take their place."),
        pictures_backwards=Wrong(
            partial(llava_forward, into=lambda words, is_image, tokens: put(words, is_image, tokens.flip(0))),
            tokens_backwards=partial(llava_forward, into=lambda words, is_image, tokens: put(words, is_image, tokens.flip(1))),
            by_turns=partial(llava_forward, into=lambda words, is_image, tokens: put(words, is_image, tokens.transpose(0, 1))),
        ).hint("""
            The visual tokens are in another order. They go into the placeholders in reading order: all of the first picture, then all of
            the second."""),
        class_token_kept=Wrong(partial(llava_forward, leave_out=first_tokens)).hint("""
            You left out the last patch, and the class token is among the rest. It stands first: vision.encode(images)[:, 1:]."""),
        not_normalised=Wrong(partial(llava_forward, normalise=lambda patches: patches)).hint("""
            The patches are not brought to a common size before they are merged: F.rms_norm(patches, patches.shape[-1:])."""),
        normalised_after_merging=Wrong(
            partial(llava_forward, normalise=lambda patches: patches, join=lambda *given: normalised(joined(*given)))
        ).hint("""
            The norm is taken over a whole square of patches. It is taken patch by patch, before they are joined."""),
        only_reshaped=Wrong(
            partial(llava_forward, join=lambda patches, grid, merge: patches.reshape(len(patches), -1, patches.shape[2] * merge**2))
        ).hint("""
            The patches are merged by a reshape alone, which joins such as follow one another in a line of the picture. A square of them
            comes from several lines: rearrange 'b (rows m columns n) d -> b (rows columns) (m n d)'."""),
        columns_first=Wrong(partial(llava_forward, join=partial(joined, pattern="b (r m c n) d -> b (r c) (n m d)"))).hint("""
            Within a square of patches you go down the columns. They are joined row by row."""),
        channels_first=Wrong(partial(llava_forward, join=partial(joined, pattern="b (r m c n) d -> b (r c) (d m n)"))).hint("""
            Of a square you take the first number of all patches, then the second. Here a patch stays together: (m n d)."""),
        positions_of_words=Wrong(partial(llava_forward, positions=None)).hint("""
            Every token of a picture has a position of its own, as words have. In this model all tokens of a picture share one, and the text
            goes on with the next: language_model.decode(x, positions=...)."""),
        one_position_for_neighbours=Wrong(partial(llava_forward, positions=one_for_each_run)).hint("""
            Two pictures side by side share one position. Each picture has its own: count the placeholders, and begin anew after as many as
            a picture has tokens."""),
        no_positions=Wrong(partial(llava_forward, positions=lambda is_image, tokens: torch.zeros_like(is_image, dtype=torch.long))).hint("""
            No token knows where it stands: all positions are the same."""),
        no_mask=Wrong(partial(llava_forward, attend=lambda x: torch.ones(x.shape[1], x.shape[1], dtype=torch.bool)[None, None])).hint(
            "Words see what comes after them. The decoder is causal, over pictures and words alike."
        ),
        norm_twice=Wrong(partial(llava_forward, end=lambda language_model, x: language_model.head(language_model.norm(x)))).hint("""
            The decoder's last norm is applied twice. language_model.decode ends with it already."""),
        no_head=Wrong(partial(llava_forward, end=lambda language_model, x: x)).hint("""
            These are the vectors before the head. Asked for are logits, a number for each word: language_model.head(x)."""),
    ),
    afterthought="Something to think of: which line of it would you change for a picture of another size?",
)

EXERCISES = {"llava_forward": LLAVA_FORWARD}
