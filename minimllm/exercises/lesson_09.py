"""Exercises of lesson 09: which grid of tiles, which token sees which picture, in what order features lie, and what gates do."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from minimllm.layers.masks import cross_attention_mask
from minimllm.models.llama_vision.tiles import arrangements, choose_arrangement

from . import Exercise, Wrong

# ---- the grid ---------------------------------------------------------------------------------------------------------


def grid_cases() -> list[tuple[int, int, int]]:
    sizes = [(300, 200), (560, 560), (560, 561), (561, 561), (480, 640), (640, 480), (1080, 1920), (1920, 1080), (100, 2000), (2000, 100)]
    sizes += [(3000, 3000), (1120, 1120), (1, 5000), (200, 1200), (1200, 200), (700, 500), (1120, 560), (1121, 560), (800, 2600)]
    return [(height, width, 560) for height, width in sizes] + [(40, 90, 32), (60, 60, 32)]


Grid = tuple[int, int]


def grid_by_hand(
    height: int,
    width: int,
    tile_size: int,
    *,
    smaller: Callable[[float, float], float] = min,
    best: Callable[[list[float]], float] = lambda scales: min([scale for scale in scales if scale >= 1] or [max(scales)]),
    of_equals: Callable[[list[Grid]], Grid] = lambda grids: min(grids, key=math.prod),
) -> Grid:
    """The rule by hand, with what people get wrong as options."""
    scales = {(rows, columns): smaller(rows * tile_size / height, columns * tile_size / width) for rows, columns in arrangements()}
    chosen = best(list(scales.values()))
    return of_equals([grid for grid in scales if scales[grid] == chosen])


CHOOSE_GRID = Exercise(
    reference=choose_arrangement,
    cases=grid_cases,
    mistakes=dict(
        sides_exchanged=Wrong(lambda again, height, width: again(height=width, width=height)).hint("""
            Rows and columns are exchanged. A grid is (rows, columns): the rows belong to the height, the columns to the width."""),
        the_largest_scale=Wrong(partial(grid_by_hand, best=max)).hint("""
            You take the grid in which the picture could grow most. A picture that fits wants the smallest scale of those from 1 up:
            enlarging adds no detail, only tiles."""),
        never_enlarged=Wrong(
            partial(grid_by_hand, best=lambda scales: max([scale for scale in scales if scale <= 1] or [min(scales)]))
        ).hint("""You take only grids in which the picture would not grow. A grid with room to spare is better than one that shrinks the
            picture: first look among the scales of 1 or more."""),
        strictly_larger=Wrong(
            partial(grid_by_hand, best=lambda scales: min([scale for scale in scales if scale > 1] or [max(scales)]))
        ).hint("A scale of exactly 1 fits as well: the comparison is >= 1."),
        the_smallest_scale_of_all=Wrong(
            partial(grid_by_hand, best=lambda scales: min([scale for scale in scales if scale >= 1] or scales))
        ).hint("""
            Where no grid is large enough you take the one that shrinks the picture most. Of the scales below 1, the largest is best. (If
            you divide with //, every scale below 1 is 0, and they look alike: divide with /.)"""),
        most_tiles_of_equals=Wrong(partial(grid_by_hand, of_equals=lambda grids: max(grids, key=math.prod))).hint("""
            Several grids give the same scale, and you take the one with the most tiles: the rest would be black."""),
        last_of_equals=Wrong(partial(grid_by_hand, of_equals=lambda grids: grids[-1])).hint("""
            Several grids give the same scale, and you take the last of them. Take the one with the fewest tiles."""),
        larger_side_decides=Wrong(partial(grid_by_hand, smaller=max)).hint("""
            A picture fits a grid only if both sides do: the scale is the smaller of the two ratios, min and not max."""),
        nearest_proportions=Wrong(
            lambda height, width: min(arrangements(), key=lambda grid: (abs(grid[1] / grid[0] - width / height), math.prod(grid)))
        ).hint("""You choose by the proportions alone. They say nothing about how much the picture would shrink: a large square photograph
            gets four tiles, a small one a single tile."""),
        tiles_to_cover=Wrong(
            lambda height, width, tile_size: (min(4, math.ceil(height / tile_size)), min(4, math.ceil(width / tile_size)))
        ).hint("You cut without resizing. That can take more than four tiles (3000 × 3000 would be 16 of them), and no such grid exists."),
    ),
    afterthought="Something to think of: for which pictures does the choice not depend on the tile size at all?",
)

# ---- who sees which picture -------------------------------------------------------------------------------------------

PICTURE = 9


def mask_cases() -> list[tuple[Tensor, int]]:
    texts = ("tIt", "IIt", "tItIt", "ItII", "IIItIt", "tIItIt", "ttt", "tItIItItt", "I")
    generator = torch.Generator().manual_seed(1)
    cases = []
    for text in texts:
        words = torch.randint(0, PICTURE, (len(text),), generator=generator)
        cases.append((torch.where(torch.tensor([letter == "I" for letter in text]), PICTURE, words), PICTURE))
    return cases


def visible_pictures(ids: Tensor, image_token_id: int) -> Tensor:
    count = int((ids == image_token_id).sum())
    return cross_attention_mask(ids[None], [[1] * count], image_token_id, max_tiles=1)[0, :, :, 0]


def own(ids: Tensor, image_token_id: int) -> Tensor:
    """The picture that came last, ``(length, pictures)``: an image token's own, or that of the image token before a word."""
    places = ids == image_token_id
    return torch.arange(int(places.sum()))[None] == places.cumsum(0)[:, None] - 1


def one_later(rows: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(rows[:1]), rows[:-1]])


def is_picture(ids: Tensor, image_token_id: int) -> Tensor:
    return (ids == image_token_id)[:, None]


def whole_run_at_once(right, ids, image_token_id):
    right, places = right.clone(), (ids == image_token_id).tolist()
    for place in reversed(range(len(places) - 1)):
        if places[place] and places[place + 1]:
            right[place] = right[place + 1]
    return right


VISIBLE_PICTURES = Exercise(
    reference=visible_pictures,
    cases=mask_cases,
    mistakes=dict(
        all_so_far=Wrong(lambda ids, image_token_id: own(ids, image_token_id).cummax(0).values).hint("""
            A word sees every picture so far. In Llama 3.2 it sees the last one only (or the last run of pictures side by side)."""),
        last_alone=Wrong(own).hint("""
            A word sees one picture, even where several stand side by side before it. Pictures with nothing between them count
            together."""),
        own_token_excluded=Wrong(lambda right: one_later(right)).hint("""
            Every row stands one place too late. A picture is seen from its own <|image|> token on, that token included."""),
        own_picture_hidden=Wrong(
            lambda right, ids, image_token_id: right & ~(is_picture(ids, image_token_id) & own(ids, image_token_id))
        ).hint("The <|image|> token does not see the picture it stands for. It does."),
        image_tokens_blind=Wrong(lambda right, ids, image_token_id: right & ~is_picture(ids, image_token_id)).hint("""
            The <|image|> tokens see nothing. They are tokens as others: each sees its own picture, and those of the run before it."""),
        pairs_only=Wrong(lambda right: right & (right.flip(1).cumsum(1).flip(1) <= 2)).hint("""
            Of a run you let two pictures be seen at most. A run may be of any length: all pictures with nothing between them count
            together."""),
        whole_run_at_once=Wrong(whole_run_at_once).hint("""
            In a run, the first <|image|> token sees pictures that come after it. Each sees the pictures of the run up to its own."""),
        run_tokens_alone=Wrong(
            lambda right, ids, image_token_id: torch.where(is_picture(ids, image_token_id), own(ids, image_token_id), right)
        ).hint("In a run, each <|image|> token sees its own picture alone. It sees the pictures of the run before it, too."),
        everything_sees_everything=Wrong(lambda right: torch.ones_like(right)).hint("Everything sees everything: there is no mask at all."),
        first_sees_ahead=Wrong(
            lambda right, ids, image_token_id: (
                right | ((torch.arange(right.shape[1]) == 0) & (is_picture(ids, image_token_id).cumsum(0) == 0))
            )
        ).hint("""
            Text before the first picture sees that picture. It must see nothing: the picture comes later."""),
        up_to_the_next=Wrong(lambda right: right | one_later(right)).hint("""
            Each picture is seen one token too long: the <|image|> token that begins a new run does not see the pictures before it."""),
        turned=Wrong(lambda right: right.mT).hint("The mask is transposed: its rows are tokens, its columns pictures."),
        inverted=Wrong(lambda right: ~right).hint("True and False are exchanged: True is where a token may look."),
        as_numbers=Wrong(lambda right: right.long()).hint("The values are right, and of the wrong type: return a bool tensor."),
    ),
    afterthought="Something to think of: what changes if somebody writes a line break between two pictures?",
)

# ---- the order of the features ----------------------------------------------------------------------------------------


def feature_cases() -> list[tuple[Tensor, list[Tensor]]]:
    generator = torch.Generator().manual_seed(2)

    def case(images: int, tokens: int, dim: int, states: int) -> tuple[Tensor, list[Tensor]]:
        output, *rest = torch.randn(1 + states, images, tokens, dim, generator=generator)
        return output, list(rest)

    return [case(2, 3, 4, 5), case(1, 2, 3, 2), case(3, 1, 4, 4), case(2, 2, 5, 1)]


def blocks(states: list[Tensor]) -> Tensor:
    """The states interleaved: number 0 of every state, then number 1 of every state."""
    return torch.stack(states, dim=-1).flatten(-2)


def interleave(output: Tensor, states: list[Tensor]) -> Tensor:
    return torch.cat([output, blocks(states)], dim=-1)


INTERLEAVE = Exercise(
    reference=interleave,
    cases=feature_cases,
    mistakes=dict(
        side_by_side=Wrong(lambda output, states: torch.cat([output, *states], dim=-1)).hint("""
            The states stand behind each other as blocks. They are interleaved: first number 0 of every state, then number 1 of every state.
            With weights that were trained the other way, each input of the projector would get another's number."""),
        all_interleaved=Wrong(lambda output, states: blocks([output, *states])).hint("""
            The output of the encoder is interleaved as well. It comes first, as one block; only the intermediate states are
            interleaved."""),
        states_first=Wrong(lambda output, states: torch.cat([blocks(states), output], dim=-1)).hint("""
            The output of the encoder comes first, then the intermediate states."""),
        backwards=Wrong(lambda again, states: again(states=states[::-1])).hint("""
            The states are interleaved in reverse. They keep the order in which the config lists them."""),
        without_the_output=Wrong(lambda states: blocks(states)).hint("""
            The output itself is missing: it comes first, before the interleaved states."""),
        without_the_states=Wrong(lambda output: output).hint("The intermediate states are missing."),
        along_the_tokens=Wrong(lambda output, states: torch.cat([output, *states], dim=1)).hint("""
            You join along the tokens, which makes more of them. The tokens stay as many; each gets a longer vector."""),
        averaged=Wrong(lambda output, states: torch.cat([output, torch.stack(states).mean(dim=0)], dim=-1)).hint("""
            You average the intermediate states. Each keeps its numbers: k states make k times as many."""),
        tokens_mixed=Wrong(
            lambda output, states: torch.cat([output, torch.stack(states, dim=1).reshape(*output.shape[:2], -1)], dim=-1)
        ).hint("Numbers of different tokens end up in one vector. Stack the states along a new last axis, and flatten the last two."),
    ),
    batched=(0,),
    afterthought="Something to think of: would a model trained from the start be worse with blocks in place of this order?",
)

# ---- the gates --------------------------------------------------------------------------------------------------------


def gate_cases() -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(3)

    def case(gate: float, images: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x, per_tile = torch.randn(2, images, 4, 3, 5, generator=generator)
        return x, torch.randn(3, 5, generator=generator), per_tile, torch.tensor([gate])

    return [case(0.0), case(0.8), case(-1.3), case(0.2, images=1)]


def gated_positions(x: Tensor, local: Tensor, per_tile: Tensor, gate: Tensor) -> Tensor:
    return x + (1 - gate.tanh()) * local + gate.tanh() * per_tile


GATED_POSITIONS = Exercise(
    reference=gated_positions,
    cases=gate_cases,
    mistakes=dict(
        no_tanh=Wrong(lambda x, local, per_tile, gate: x + (1 - gate) * local + gate * per_tile).hint("""
            The tanh is missing: the gate is any number, and tanh keeps the share between -1 and 1."""),
        sigmoid=Wrong(lambda x, local, per_tile, gate: x + (1 - gate.sigmoid()) * local + gate.sigmoid() * per_tile).hint("""
            A sigmoid of 0 is one half: the gate would stand half open from the start. It is tanh, which is 0 there."""),
        local_always=Wrong(lambda x, local, per_tile, gate: x + local + gate.tanh() * per_tile).hint("""
            The position within the tile is added in full whatever the gate says. It gives way as the other comes in: 1 - tanh(gate)."""),
        both_opened=Wrong(lambda x, local, per_tile, gate: x + gate.tanh() * (local + per_tile)).hint("""
            Both tables stand behind the same tanh(gate): with the gate at 0 there would be no positions at all. The first has 1 -
            tanh(gate)."""),
        exchanged=Wrong(lambda again, local, per_tile: again(local=per_tile, per_tile=local)).hint("""
            The two tables have exchanged their shares. At gate 0 only the position within the tile counts."""),
        tanh_of_the_rest=Wrong(lambda x, local, per_tile, gate: x + (1 - gate).tanh() * local + gate.tanh() * per_tile).hint("""
            It is 1 - tanh(gate), not tanh(1 - gate): with the gate at 0 that would be 0.76 and not 1."""),
        stream_gated=Wrong(lambda right, x, gate: right - gate.tanh() * x).hint("""
            The patches themselves are scaled as well. The gate weighs the two positions; x passes untouched."""),
        local_forgotten=Wrong(lambda x, per_tile, gate: x + gate.tanh() * per_tile).hint("""
            The position within the tile is missing: with the gate at 0 no token would know where it is. It has the share 1 -
            tanh(gate)."""),
        both_grow=Wrong(lambda x, local, per_tile, gate: x + (1 + gate.tanh()) * local + gate.tanh() * per_tile).hint("""
            It is 1 - tanh(gate), not 1 + tanh(gate): the one table gives way as the other comes in."""),
        no_gate=Wrong(lambda x, local, per_tile: x + local + per_tile).hint("The gate is not used."),
        stream_forgotten=Wrong(lambda right, x: right - x).hint("x itself is missing: positions are added to it."),
    ),
    batched=(0, 2),
    afterthought="Something to think of: at gate 0, which of the two tables gets a gradient, and does the gate itself get one?",
)

EXERCISES = {"choose_grid": CHOOSE_GRID, "visible_pictures": VISIBLE_PICTURES, "interleave": INTERLEAVE, "gated_positions": GATED_POSITIONS}
