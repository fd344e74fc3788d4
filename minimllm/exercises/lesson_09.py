"""Exercises of lesson 09: which grid of tiles, which token sees which picture, in what order features lie, and what gates do."""

import math

import torch
from torch import Tensor

from minimllm.layers.masks import cross_attention_mask
from minimllm.models.llama_vision.tiles import arrangements, choose_arrangement

from .judging import Exercise, Mistake

# ---- the grid ---------------------------------------------------------------------------------------------------------


def grid_cases() -> list[tuple[int, int, int]]:
    sizes = [(300, 200), (560, 560), (560, 561), (561, 561), (480, 640), (640, 480), (1080, 1920), (1920, 1080), (100, 2000), (2000, 100)]
    sizes += [(3000, 3000), (1120, 1120), (1, 5000), (200, 1200), (1200, 200), (700, 500), (1120, 560), (1121, 560), (800, 2600)]
    return [(height, width, 560) for height, width in sizes] + [(40, 90, 32), (60, 60, 32)]


def scales(height: int, width: int, tile_size: int) -> dict[tuple[int, int], float]:
    return {(rows, columns): min(rows * tile_size / height, columns * tile_size / width) for rows, columns in arrangements()}


def sides_exchanged(height, width, tile_size):
    return choose_arrangement(width, height, tile_size)


def the_largest_scale(height, width, tile_size):
    found = scales(height, width, tile_size)
    return min((grid for grid in found if found[grid] == max(found.values())), key=math.prod)


def never_enlarged(height, width, tile_size):
    found = scales(height, width, tile_size)
    best = max(scale for scale in found.values() if scale <= 1) if min(found.values()) <= 1 else min(found.values())
    return min((grid for grid in found if found[grid] == best), key=math.prod)


def strictly_larger(height, width, tile_size):
    found = scales(height, width, tile_size)
    up = [scale for scale in found.values() if scale > 1]
    best = min(up) if up else max(found.values())
    return min((grid for grid in found if found[grid] == best), key=math.prod)


def the_smallest_scale_of_all(height, width, tile_size):
    found = scales(height, width, tile_size)
    best = min([scale for scale in found.values() if scale >= 1] or found.values())
    return min((grid for grid in found if found[grid] == best), key=math.prod)


def most_tiles_of_equals(height, width, tile_size):
    found = scales(height, width, tile_size)
    best = found[choose_arrangement(height, width, tile_size)]
    return max((grid for grid in found if found[grid] == best), key=math.prod)


def last_of_equals(height, width, tile_size):
    found = scales(height, width, tile_size)
    best = found[choose_arrangement(height, width, tile_size)]
    return [grid for grid in found if found[grid] == best][-1]


def larger_side_decides(height, width, tile_size):
    found = {(rows, columns): max(rows * tile_size / height, columns * tile_size / width) for rows, columns in arrangements()}
    up = [scale for scale in found.values() if scale >= 1]
    best = min(up) if up else max(found.values())
    return min((grid for grid in found if found[grid] == best), key=math.prod)


def nearest_proportions(height, width, tile_size):
    return min(arrangements(), key=lambda grid: (abs(grid[1] / grid[0] - width / height), math.prod(grid)))


def tiles_to_cover(height, width, tile_size):
    return min(4, math.ceil(height / tile_size)), min(4, math.ceil(width / tile_size))


CHOOSE_GRID = Exercise(
    reference=choose_arrangement,
    cases=grid_cases,
    mistakes=(
        Mistake(
            sides_exchanged,
            "Rows and columns are exchanged. A grid is (rows, columns): the rows belong to the height, the columns to the width.",
        ),
        Mistake(
            the_largest_scale,
            "You take the grid in which the picture could grow most. A picture that fits wants the smallest scale of those from 1 up: "
            "enlarging adds no detail, only tiles.",
        ),
        Mistake(
            never_enlarged,
            "You take only grids in which the picture would not grow. A grid with room to spare is better than one that shrinks the "
            "picture: first look among the scales of 1 or more.",
        ),
        Mistake(strictly_larger, "A scale of exactly 1 fits as well: the comparison is >= 1."),
        Mistake(
            the_smallest_scale_of_all,
            "Where no grid is large enough you take the one that shrinks the picture most. Of the scales below 1, the largest is best. "
            "(If you divide with //, every scale below 1 is 0, and they look alike: divide with /.)",
        ),
        Mistake(
            most_tiles_of_equals, "Several grids give the same scale, and you take the one with the most tiles: the rest would be black."
        ),
        Mistake(last_of_equals, "Several grids give the same scale, and you take the last of them. Take the one with the fewest tiles."),
        Mistake(
            larger_side_decides,
            "A picture fits a grid only if both sides do: the scale is the smaller of the two ratios, min and not max.",
        ),
        Mistake(
            nearest_proportions,
            "You choose by the proportions alone. They say nothing about how much the picture would shrink: a large square photograph "
            "gets four tiles, a small one a single tile.",
        ),
        Mistake(
            tiles_to_cover,
            "You cut without resizing. That can take more than four tiles (3000 × 3000 would be 16 of them), and no such grid exists.",
        ),
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


def _counted(ids: Tensor, image_token_id: int) -> tuple[Tensor, Tensor]:
    places = ids == image_token_id
    return places.cumsum(0)[:, None], torch.arange(int(places.sum()))[None]


def all_so_far(ids, image_token_id):
    count, number = _counted(ids, image_token_id)
    return number < count


def last_alone(ids, image_token_id):
    count, number = _counted(ids, image_token_id)
    return number == count - 1


def own_token_excluded(ids, image_token_id):
    right = visible_pictures(ids, image_token_id)
    return torch.cat([torch.zeros_like(right[:1]), right[:-1]])


def own_picture_hidden(ids, image_token_id):
    right = visible_pictures(ids, image_token_id)
    count, number = _counted(ids, image_token_id)
    return right & ~((ids == image_token_id)[:, None] & (number == count - 1))


def whole_run_at_once(ids, image_token_id):
    """Every image token of a run sees all pictures of the run."""
    right, places = visible_pictures(ids, image_token_id).clone(), (ids == image_token_id).tolist()
    for place in reversed(range(len(places) - 1)):
        if places[place] and places[place + 1]:
            right[place] = right[place + 1]
    return right


def run_tokens_alone(ids, image_token_id):
    """Inside a run, each image token sees its own picture alone; the text behind sees the run."""
    right, places = visible_pictures(ids, image_token_id), (ids == image_token_id)[:, None]
    return torch.where(places, last_alone(ids, image_token_id), right)


def everything_sees_everything(ids, image_token_id):
    return torch.ones_like(visible_pictures(ids, image_token_id))


def first_sees_ahead(ids, image_token_id):
    """Text before the first picture sees it."""
    right = visible_pictures(ids, image_token_id).clone()
    if right.shape[1]:
        right[: int((ids == image_token_id).long().argmax()), 0] = True
    return right


def up_to_the_next(ids, image_token_id):
    """The token of the next picture still sees the one before."""
    right = visible_pictures(ids, image_token_id)
    return right | torch.cat([torch.zeros_like(right[:1]), right[:-1]])


def turned(ids, image_token_id):
    return visible_pictures(ids, image_token_id).mT


def inverted(ids, image_token_id):
    return ~visible_pictures(ids, image_token_id)


def as_numbers(ids, image_token_id):
    return visible_pictures(ids, image_token_id).long()


VISIBLE_PICTURES = Exercise(
    reference=visible_pictures,
    cases=mask_cases,
    mistakes=(
        Mistake(
            all_so_far,
            "A word sees every picture so far. In Llama 3.2 it sees the last one only (or the last run of pictures side by side).",
        ),
        Mistake(
            last_alone,
            "A word sees one picture, even where several stand side by side before it. Pictures with nothing between them count together.",
        ),
        Mistake(
            own_token_excluded,
            "Every row stands one place too late. A picture is seen from its own <|image|> token on, that token included.",
        ),
        Mistake(own_picture_hidden, "The <|image|> token does not see the picture it stands for. It does."),
        Mistake(
            whole_run_at_once,
            "In a run, the first <|image|> token sees pictures that come after it. Each sees the pictures of the run up to its own.",
        ),
        Mistake(
            run_tokens_alone,
            "In a run, each <|image|> token sees its own picture alone. It sees the pictures of the run before it, too.",
        ),
        Mistake(everything_sees_everything, "Everything sees everything: there is no mask at all."),
        Mistake(first_sees_ahead, "Text before the first picture sees that picture. It must see nothing: the picture comes later."),
        Mistake(
            up_to_the_next,
            "Each picture is seen one token too long: the <|image|> token that begins a new run does not see the pictures before it.",
        ),
        Mistake(turned, "The mask is transposed: its rows are tokens, its columns pictures."),
        Mistake(inverted, "True and False are exchanged: True is where a token may look."),
        Mistake(as_numbers, "The values are right, and of the wrong type: return a bool tensor."),
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


def interleave(output: Tensor, states: list[Tensor]) -> Tensor:
    return torch.cat([output, torch.stack(states, dim=-1).flatten(-2)], dim=-1)


def side_by_side(output, states):
    return torch.cat([output, *states], dim=-1)


def all_interleaved(output, states):
    return torch.stack([output, *states], dim=-1).flatten(-2)


def states_first(output, states):
    return torch.cat([torch.stack(states, dim=-1).flatten(-2), output], dim=-1)


def backwards(output, states):
    return interleave(output, states[::-1])


def without_the_output(output, states):
    return torch.stack(states, dim=-1).flatten(-2)


def without_the_states(output, states):
    return output


def along_the_tokens(output, states):
    return torch.cat([output, *states], dim=1)


def averaged(output, states):
    return torch.cat([output, torch.stack(states).mean(dim=0)], dim=-1)


def tokens_mixed(output, states):
    stacked = torch.stack(states, dim=1)
    return torch.cat([output, stacked.reshape(*output.shape[:2], -1)], dim=-1)


INTERLEAVE = Exercise(
    reference=interleave,
    cases=feature_cases,
    mistakes=(
        Mistake(
            side_by_side,
            "The states stand behind each other as blocks. They are interleaved: first number 0 of every state, then number 1 of every "
            "state. With weights that were trained the other way, each input of the projector would get another's number.",
        ),
        Mistake(
            all_interleaved,
            "The output of the encoder is interleaved as well. It comes first, as one block; only the intermediate states are interleaved.",
        ),
        Mistake(states_first, "The output of the encoder comes first, then the intermediate states."),
        Mistake(backwards, "The states are interleaved in reverse. They keep the order in which the config lists them."),
        Mistake(without_the_output, "The output itself is missing: it comes first, before the interleaved states."),
        Mistake(without_the_states, "The intermediate states are missing."),
        Mistake(
            along_the_tokens,
            "You join along the tokens, which makes more of them. The tokens stay as many; each gets a longer vector.",
        ),
        Mistake(averaged, "You average the intermediate states. Each keeps its numbers: k states make k times as many."),
        Mistake(
            tokens_mixed,
            "Numbers of different tokens end up in one vector. Stack the states along a new last axis, and flatten the last two.",
        ),
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


def no_tanh(x, local, per_tile, gate):
    return x + (1 - gate) * local + gate * per_tile


def sigmoid(x, local, per_tile, gate):
    return x + (1 - gate.sigmoid()) * local + gate.sigmoid() * per_tile


def local_always(x, local, per_tile, gate):
    return x + local + gate.tanh() * per_tile


def both_opened(x, local, per_tile, gate):
    return x + gate.tanh() * (local + per_tile)


def exchanged(x, local, per_tile, gate):
    return x + gate.tanh() * local + (1 - gate.tanh()) * per_tile


def tanh_of_the_rest(x, local, per_tile, gate):
    return x + (1 - gate).tanh() * local + gate.tanh() * per_tile


def stream_gated(x, local, per_tile, gate):
    return (1 - gate.tanh()) * (x + local) + gate.tanh() * per_tile


def local_forgotten(x, local, per_tile, gate):
    return x + gate.tanh() * per_tile


def both_grow(x, local, per_tile, gate):
    return x + (1 + gate.tanh()) * local + gate.tanh() * per_tile


def no_gate(x, local, per_tile, gate):
    return x + local + per_tile


def stream_forgotten(x, local, per_tile, gate):
    return (1 - gate.tanh()) * local + gate.tanh() * per_tile


GATED_POSITIONS = Exercise(
    reference=gated_positions,
    cases=gate_cases,
    mistakes=(
        Mistake(no_tanh, "The tanh is missing: the gate is any number, and tanh keeps the share between -1 and 1."),
        Mistake(sigmoid, "A sigmoid of 0 is one half: the gate would stand half open from the start. It is tanh, which is 0 there."),
        Mistake(
            local_always,
            "The position within the tile is added in full whatever the gate says. It gives way as the other comes in: 1 - tanh(gate).",
        ),
        Mistake(
            both_opened,
            "Both tables stand behind the same tanh(gate): with the gate at 0 there would be no positions at all. The first has "
            "1 - tanh(gate).",
        ),
        Mistake(exchanged, "The two tables have exchanged their shares. At gate 0 only the position within the tile counts."),
        Mistake(tanh_of_the_rest, "It is 1 - tanh(gate), not tanh(1 - gate): with the gate at 0 that would be 0.76 and not 1."),
        Mistake(stream_gated, "The patches themselves are scaled as well. The gate weighs the two positions; x passes untouched."),
        Mistake(
            local_forgotten,
            "The position within the tile is missing: with the gate at 0 no token would know where it is. It has the share 1 - tanh(gate).",
        ),
        Mistake(both_grow, "It is 1 - tanh(gate), not 1 + tanh(gate): the one table gives way as the other comes in."),
        Mistake(no_gate, "The gate is not used."),
        Mistake(stream_forgotten, "x itself is missing: positions are added to it."),
    ),
    batched=(0, 2),
    afterthought="Something to think of: at gate 0, which of the two tables gets a gradient, and does the gate itself get one?",
)

EXERCISES = {
    "choose_grid": CHOOSE_GRID,
    "visible_pictures": VISIBLE_PICTURES,
    "interleave": INTERLEAVE,
    "gated_positions": GATED_POSITIONS,
}
