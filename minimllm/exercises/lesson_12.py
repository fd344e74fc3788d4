"""Exercises of lesson 12: pixel shuffle, which grid a picture is cut into, and the text that stands for it."""

import math
from collections.abc import Callable
from functools import partial

import torch
from einops import rearrange, reduce
from torch import Tensor

from minimllm.data.splitting import picture_text, split_grid

from . import Exercise, Wrong

# ---- pixel shuffle ----------------------------------------------------------------------------------------------------


def shuffle_cases() -> list[tuple[Tensor, int]]:
    generator = torch.Generator().manual_seed(1)
    shapes = ((2, 16, 3, 2), (1, 36, 2, 3), (3, 64, 4, 4), (2, 36, 5, 2), (2, 9, 4, 1))
    return [(torch.randn(batch, patches, dim, generator=generator), scale) for batch, patches, dim, scale in shapes]


def shuffled(
    patches: Tensor, scale: int, *, pattern: str = "b (r m c n) d -> b (r c) (m n d)", join: Callable[..., Tensor] = rearrange
) -> Tensor:
    """The rule, with what people get wrong as options; the patches are those of a square grid."""
    rows = math.isqrt(patches.shape[1]) // scale
    return join(patches, pattern, r=rows, c=rows, m=scale, n=scale)


def pixel_shuffle(patches: Tensor, scale: int) -> Tensor:
    return shuffled(patches, scale)


PIXEL_SHUFFLE = Exercise(
    reference=pixel_shuffle,
    cases=shuffle_cases,
    mistakes=dict(
        only_reshaped=Wrong(lambda right, patches: patches.reshape(right.shape)).hint("""
            A reshape alone joins patches that follow one another, all from one line of the picture. A square of patches comes from several
            lines: split the patches into (row of squares, row in it, column of squares, column in it), and permute first."""),
        columns_first=Wrong(partial(shuffled, pattern="b (r m c n) d -> b (r c) (n m d)")).hint("""
            Within a square you go down the columns. The patches of a square are joined in reading order, row by row."""),
        channels_first=Wrong(partial(shuffled, pattern="b (r m c n) d -> b (r c) (d m n)")).hint("""
            You take the first channel of all patches of a square, then the second; F.pixel_unshuffle does so. Here a patch stays together:
            all channels of the first patch, then all of the second."""),
        squares_by_column=Wrong(partial(shuffled, pattern="b (r m c n) d -> b (c r) (m n d)")).hint("""
            Each square is right, but they come column by column. The squares stand in reading order, too."""),
        far_apart=Wrong(partial(shuffled, pattern="b (m r n c) d -> b (r c) (m n d)")).hint("""
            You join patches that lie far apart. When a side is split in two, the outer part is 'which square' and the inner one 'where in
            it'."""),
        averaged=Wrong(
            lambda patches, scale: shuffled(patches, scale, pattern="b (r m c n) d -> b (r c) d", join=partial(reduce, reduction="mean")),
            _largest=lambda patches, scale: shuffled(
                patches, scale, pattern="b (r m c n) d -> b (r c) d", join=partial(reduce, reduction="max")
            ),
        ).hint("""You pool the patches of a square into one vector of the same width. Nothing is thrown away here: the vectors stand one
            after another, so that a token is scale² times as wide."""),
        one_kept=Wrong(lambda patches, scale, again: again()[..., : patches.shape[2]] if scale > 1 else patches[:, :0]).hint("""
            Of every square you keep one patch and drop the others."""),
    ),
    batched=(0,),
    afterthought="Something to think of: 64 tokens in place of 1,024 lose nothing here. Where, then, is the loss?",
)

# ---- the grid ---------------------------------------------------------------------------------------------------------


def grid_cases() -> list[tuple[int, int, int, int]]:
    sizes = [(1080, 1920), (1920, 1080), (512, 512), (300, 3000), (3000, 300), (480, 640), (40, 30), (700, 2100)]
    cases = [(height, width, 512, 2048) for height, width in sizes]
    return cases + [(450, 1200, 512, 1200), (800, 300, 512, 1200), (300, 600, 384, 1536), (100, 200, 512, 512), (512, 512, 512, 512)]


def grid_by_hand(
    height: int,
    width: int,
    tile_size: int,
    longest_edge: int,
    *,
    whole: Callable[[float], int] = math.ceil,
    scaled: Callable[[float], float] = lambda scale: scale,
    in_proportion: bool = True,
    uncut: tuple[int, int] = (0, 0),
) -> tuple[int, int]:
    """The rule by hand, with what people get wrong as options."""
    scale = scaled(longest_edge / max(height, width))
    height, width = height * scale, width * scale
    longer = whole(max(height, width) / tile_size)
    shorter = longer * tile_size * min(height, width) / max(height, width) if in_proportion else min(height, width)
    shorter = whole(shorter / tile_size)
    if longer * shorter == 1:
        return uncut
    return (shorter, longer) if width >= height else (longer, shorter)


SPLIT_GRID = Exercise(
    reference=split_grid,
    cases=grid_cases,
    mistakes=dict(
        sides_exchanged=Wrong(lambda again, height, width: again(height=width, width=height)).hint("""
            Rows and columns are exchanged. The rows belong to the height, the columns to the width."""),
        not_enlarged=Wrong(partial(grid_by_hand, scaled=lambda scale: min(scale, 1.0))).hint("""
            A small picture stays small with you. Here the longer side becomes longest_edge in any case: small pictures grow."""),
        not_resized=Wrong(partial(grid_by_hand, scaled=lambda scale: 1.0)).hint("""
            You cut the picture at its own size. First its longer side becomes longest_edge pixels, with the proportions kept."""),
        rounded_down=Wrong(partial(grid_by_hand, whole=math.floor), _to_the_nearest=partial(grid_by_hand, whole=round)).hint("""
            A last square that is not full is dropped. Both sides are rounded up to whole squares, over which the picture is stretched."""),
        shorter_side_as_it_was=Wrong(partial(grid_by_hand, in_proportion=False)).hint("""
            Where longest_edge is no multiple of tile_size, the longer side grows when it is rounded up, and the shorter one grows with it
            before it is rounded up itself."""),
        one_square=Wrong(partial(grid_by_hand, uncut=(1, 1))).hint("""
            A picture that fits into one square is not cut: 0 rows and 0 columns, and the whole is its only image."""),
        always_square=Wrong(lambda tile_size, longest_edge: (math.ceil(longest_edge / tile_size),) * 2).hint("""
            Every picture gets the same square grid with you. The shorter side has as many squares as it needs."""),
    ),
    afterthought="Something to think of: which pictures does this grid distort most, and by how much?",
)

# ---- the text ---------------------------------------------------------------------------------------------------------

BORDER, TOKEN, WHOLE = "<fake_token_around_image>", "<image>", "<global-img>"


def text_cases() -> list[tuple[int, int, int]]:
    return [(2, 3, 2), (1, 2, 1), (0, 0, 3), (3, 1, 2), (4, 4, 1)]


def text_by_hand(
    rows: int,
    columns: int,
    image_tokens: int,
    *,
    first: int = 1,
    name: Callable[[int, int], str] = lambda row, column: f"<row_{row}_col_{column}>",
    piece: str = "{border}{name}{tokens}",
    after_row: str = "\n",
    before_whole: str = "\n",
    end: str = BORDER,
    uncut: str | None = None,
) -> str:
    """The rule by hand, with what people get wrong as options."""
    tokens = TOKEN * image_tokens
    text = ""
    for row in range(first, rows + first):
        for column in range(first, columns + first):
            text += piece.format(border=BORDER, name=name(row, column), tokens=tokens)
        text += after_row
    return text + (before_whole if rows else uncut or "") + BORDER + WHOLE + tokens + end


def whole_first(rows: int, columns: int, image_tokens: int) -> str:
    whole = BORDER + WHOLE + TOKEN * image_tokens
    parts = text_by_hand(rows, columns, image_tokens).removesuffix(f"{whole}{BORDER}").removesuffix("\n")
    return f"{whole}\n{parts}{BORDER}" if rows else f"{whole}{BORDER}"


PICTURE_TEXT = Exercise(
    reference=picture_text,
    cases=text_cases,
    mistakes=dict(
        from_zero=Wrong(partial(text_by_hand, first=0)).hint("Rows and columns are counted from 1: the first is <row_1_col_1>."),
        sides_exchanged=Wrong(
            partial(text_by_hand, name=lambda row, column: f"<row_{column}_col_{row}>"),
            _both=lambda again, rows, columns: again(rows=columns, columns=rows),
        ).hint("Rows and columns are exchanged in the markers or in the loops: a row is written from left to right, then the next."),
        no_line_break=Wrong(partial(text_by_hand, after_row="")).hint("A line break ends every row of sub-pictures."),
        line_break_after_each=Wrong(partial(text_by_hand, piece="{border}{name}{tokens}\n", after_row="")).hint("""
            A line break follows every sub-picture with you; it ends a row of them."""),
        no_empty_line=Wrong(partial(text_by_hand, before_whole="")).hint("""
            One line break is missing: an empty line stands between the last row and the whole picture."""),
        empty_line_without_rows=Wrong(partial(text_by_hand, uncut="\n")).hint("""
            A picture that is not cut has no rows, and no line break before its whole."""),
        not_closed=Wrong(partial(text_by_hand, end="")).hint("""
            The text ends with one more <fake_token_around_image>, behind the whole picture."""),
        each_closed=Wrong(partial(text_by_hand, piece="{border}{name}{tokens}{border}")).hint("""
            You close every sub-picture. The <fake_token_around_image> of the next one does that; only the last is closed."""),
        one_token=Wrong(lambda again: again(image_tokens=1)).hint("""
            Each sub-picture has image_tokens times <image>, one for each of its visual tokens."""),
        marker_behind=Wrong(partial(text_by_hand, piece="{border}{tokens}{name}")).hint("""
            The marker comes before the image tokens: the model is told where it is looking before it looks."""),
        whole_first=Wrong(whole_first).hint("The whole picture comes last, as in the images."),
        without_the_whole=Wrong(lambda right: right.rpartition(f"\n{BORDER}{WHOLE}")[0] or right).hint("""
            The whole picture is missing behind the rows."""),
    ),
    afterthought="Something to think of: how many tokens does a picture of 4 × 4 and the whole cost, and how many of them are no <image>?",
)

EXERCISES = {"pixel_shuffle": PIXEL_SHUFFLE, "split_grid": SPLIT_GRID, "picture_text": PICTURE_TEXT}
