"""Exercises of lesson 05: the causal mask, rotary positions, one step with a cache."""

import torch
import torch.nn.functional as F
from torch import Tensor

from minimllm.layers import attention, masks
from minimllm.layers.rotary import rotary_angles, rotary_frequencies

from . import Exercise, Mistake

# ---- the mask ---------------------------------------------------------------------------------------------------------


def mask_cases() -> list[tuple[int, int]]:
    return [(5, 0), (3, 4), (1, 6), (4, 1)]


def causal(length: int, past: int) -> Tensor:
    return masks.causal_mask(length, past=past)


def _everything(length: int, past: int) -> Tensor:
    return torch.ones(length, past + length, dtype=torch.bool)


def past_forgotten(length: int, past: int) -> Tensor:
    return _everything(length, past).tril()


def new_tokens_only(length: int, past: int) -> Tensor:
    return _everything(length, 0).tril()


def not_itself(length: int, past: int) -> Tensor:
    return _everything(length, past).tril(past - 1)


def the_future(length: int, past: int) -> Tensor:
    return _everything(length, past).triu(past)


def forbidden_for_allowed(length: int, past: int) -> Tensor:
    return _everything(length, past).triu(past + 1)


def one_too_far(length: int, past: int) -> Tensor:
    return _everything(length, past).tril(past + 1)


def upright(length: int, past: int) -> Tensor:
    return causal(length, past).T.contiguous()


def added_to_scores(length: int, past: int) -> Tensor:
    return torch.zeros(length, past + length).masked_fill(~causal(length, past), float("-inf"))


def ones_and_zeros(length: int, past: int) -> Tensor:
    return causal(length, past).float()


def square(length: int, past: int) -> Tensor:
    return causal(past + length, 0)


CAUSAL_MASK = Exercise(
    reference=causal,
    cases=mask_cases,
    mistakes=(
        Mistake(
            past_forgotten,
            "Right without a past, but with one the first new token sees key 0 alone. All kept tokens lie before it: the diagonal begins "
            "`past` columns further right, .tril(past).",
        ),
        Mistake(new_tokens_only, "The keys are the kept ones and the new ones together: there must be past + length columns."),
        Mistake(
            not_itself,
            "No token may see itself here. It must: token i is known when token i + 1 is guessed. And the first row would have nothing to "
            "attend to, so that its softmax is 0 / 0.",
        ),
        Mistake(the_future, "The other triangle: your tokens see themselves and what comes *after* them."),
        Mistake(
            forbidden_for_allowed,
            "True and False are exchanged. In this course, as in scaled_dot_product_attention, True means: may attend.",
        ),
        Mistake(
            one_too_far,
            "Each token also sees the one after it, which is just the one that it shall guess. In training the loss would fall to nearly "
            "zero, and the model could write nothing.",
        ),
        Mistake(upright, "Rows and columns are exchanged: a row is a token that asks, a column one that is looked at."),
        Mistake(
            added_to_scores,
            "This is a mask to *add* to the scores, 0 and -inf. scaled_dot_product_attention takes that form too; asked for is bool.",
        ),
        Mistake(
            ones_and_zeros,
            "Right, but in floats. scaled_dot_product_attention would *add* such a mask to the scores, which forbids nothing. Use bool.",
        ),
        Mistake(square, "Only the new tokens ask: one row for each of them, length rows in all. The kept tokens were done before."),
    ),
    afterthought="Something to think of: with a single new token the mask is all True. What may one leave out then?",
)

# ---- rotary positions -------------------------------------------------------------------------------------------------


def rotary_cases() -> list[tuple[Tensor, Tensor, float]]:
    generator = torch.Generator().manual_seed(5)

    def case(batch: int, heads: int, positions: list[int], head_dim: int, base: float) -> tuple[Tensor, Tensor, float]:
        return torch.randn(batch, heads, len(positions), head_dim, generator=generator), torch.tensor(positions), base

    return [case(2, 3, [0, 1, 2, 3], 8, 10_000.0), case(1, 2, [7, 8, 30], 6, 100.0)]


def rotary(x: Tensor, positions: Tensor, base: float) -> Tensor:
    return attention.rotate(x, rotary_angles(positions, rotary_frequencies(x.shape[-1], base)))


def _turn(x: Tensor, angles: Tensor) -> Tensor:
    """Pairs of the two halves, turned by ``angles`` of ``(length, head_dim / 2)``."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()], dim=-1)


def _angles(x: Tensor, positions: Tensor, base: float) -> Tensor:
    return positions[:, None] * rotary_frequencies(x.shape[-1], base)


def neighbours_paired(x: Tensor, positions: Tensor, base: float) -> Tensor:
    angles, first, second = _angles(x, positions, base), x[..., 0::2], x[..., 1::2]
    turned = first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()
    return torch.stack(turned, dim=-1).flatten(-2)


def turned_backwards(x: Tensor, positions: Tensor, base: float) -> Tensor:
    return _turn(x, -_angles(x, positions, base))


def one_speed(x: Tensor, positions: Tensor, base: float) -> Tensor:
    return _turn(x, positions[:, None].float())


def exponent_halved(x: Tensor, positions: Tensor, base: float) -> Tensor:
    return _turn(x, _angles(x, positions, base**0.5))


def speeding_up(x: Tensor, positions: Tensor, base: float) -> Tensor:
    return _turn(x, positions[:, None] / rotary_frequencies(x.shape[-1], base))


def slowest_first(x: Tensor, positions: Tensor, base: float) -> Tensor:
    return _turn(x, _angles(x, positions, base).flip(-1))


def sign_forgotten(x: Tensor, positions: Tensor, base: float) -> Tensor:
    angles = torch.cat([_angles(x, positions, base)] * 2, dim=-1)
    first, second = x.chunk(2, dim=-1)
    return x * angles.cos() + torch.cat([second, first], dim=-1) * angles.sin()


def sine_and_cosine_exchanged(x: Tensor, positions: Tensor, base: float) -> Tensor:
    angles = _angles(x, positions, base)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * angles.sin() - second * angles.cos(), second * angles.sin() + first * angles.cos()], dim=-1)


def counted_from_zero(x: Tensor, positions: Tensor, base: float) -> Tensor:
    return rotary(x, torch.arange(len(positions)), base)


def counted_from_one(x: Tensor, positions: Tensor, base: float) -> Tensor:
    return rotary(x, positions + 1, base)


def added(x: Tensor, positions: Tensor, base: float) -> Tensor:
    angles = _angles(x, positions, base)
    return x + torch.cat([angles.cos(), angles.sin()], dim=-1)


ROTARY = Exercise(
    reference=rotary,
    cases=rotary_cases,
    batched=(0,),
    mistakes=(
        Mistake(
            neighbours_paired,
            "You pair neighbours, numbers 0 and 1, 2 and 3. So does the paper, and Meta's own code; the weights on the hub, and this "
            "course, pair number i with number i + head_dim / 2. Both work, but not with each other's weights.",
        ),
        Mistake(
            turned_backwards,
            "Turned the wrong way round. A model that learns with it would do as well, but weights that were learned with the other would "
            "not. Asked for is (a, b) -> (a cos - b sin, b cos + a sin).",
        ),
        Mistake(
            one_speed,
            "All pairs turn equally fast, one radian a place: after 6.28 places everything looks nearly as before. Pair i turns "
            "base ** (-2 i / head_dim) radians a place.",
        ),
        Mistake(
            exponent_halved,
            "The frequencies do not fall far enough: the exponent of pair i is 2 i / head_dim (that is i over the number of *pairs*), "
            "not i / head_dim.",
        ),
        Mistake(speeding_up, "The frequencies grow from pair to pair. The exponent is negative: base ** (-2 i / head_dim)."),
        Mistake(slowest_first, "The frequencies are in the wrong order: pair 0 turns fastest, one radian a place."),
        Mistake(sign_forgotten, "A minus is missing: the first number of a pair becomes a cos - b sin. Yours is no rotation."),
        Mistake(sine_and_cosine_exchanged, "Sine and cosine are exchanged: at position 0, where nothing turns, x must come out unchanged."),
        Mistake(
            counted_from_zero,
            "You count the places yourself, from 0. Use the positions given: behind a cache, the first new token is not number 0.",
        ),
        Mistake(counted_from_one, "One place too far: position 0 must leave x unchanged."),
        Mistake(
            added,
            "You add sines and cosines, as the first transformer did with its embeddings. Rotary positions *turn*, so lengths stay.",
        ),
    ),
    afterthought="Something to think of: what would be lost if the values were turned as well?",
)

# ---- one step with a cache --------------------------------------------------------------------------------------------

Step = tuple[Tensor, Tensor, Tensor]


def step_cases() -> list[tuple[Tensor, ...]]:
    generator = torch.Generator().manual_seed(6)

    def case(batch: int, heads: int, past: int, head_dim: int) -> tuple[Tensor, ...]:
        new = torch.randn(3, batch, heads, 1, head_dim, generator=generator)
        return *new, *torch.randn(2, batch, heads, past, head_dim, generator=generator)

    return [case(2, 3, 4, 8), case(1, 2, 7, 6)]


def _at(x: Tensor, position: int) -> Tensor:
    return rotary(x, torch.arange(position, position + x.shape[2]), 10_000.0)


def _attend(query: Tensor, keys: Tensor, values: Tensor, **options) -> Step:
    return F.scaled_dot_product_attention(query, keys, values, **options), keys, values


def cached_step(query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor) -> Step:
    place = keys.shape[2]
    keys, values = torch.cat([keys, _at(key, place)], dim=2), torch.cat([values, value], dim=2)
    return _attend(_at(query, place), keys, values)


def position_zero(query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor) -> Step:
    return _attend(query, torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2))


def query_not_turned(query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor) -> Step:
    _, keys, values = cached_step(query, key, value, keys, values)
    return _attend(query, keys, values)


def key_not_turned(query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor) -> Step:
    return _attend(_at(query, keys.shape[2]), torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2))


def one_place_further(query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor) -> Step:
    place = keys.shape[2] + 1
    return _attend(_at(query, place), torch.cat([keys, _at(key, place)], dim=2), torch.cat([values, value], dim=2))


def blind_for_itself(query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor) -> Step:
    mixed = F.scaled_dot_product_attention(_at(query, keys.shape[2]), keys, values)
    return mixed, *cached_step(query, key, value, keys, values)[1:]


def nothing_kept(query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor) -> Step:
    return cached_step(query, key, value, keys, values)[0], keys, values


def turned_twice(query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor) -> Step:
    return _attend(_at(query, keys.shape[2]), _at(torch.cat([keys, key], dim=2), 0), torch.cat([values, value], dim=2))


def value_turned(query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor) -> Step:
    return cached_step(query, key, _at(value, keys.shape[2]), keys, values)


def put_in_front(query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor) -> Step:
    place = keys.shape[2]
    return _attend(_at(query, place), torch.cat([_at(key, place), keys], dim=2), torch.cat([value, values], dim=2))


def causal_again(query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor) -> Step:
    _, keys, values = cached_step(query, key, value, keys, values)
    return _attend(_at(query, keys.shape[2] - 1), keys, values, is_causal=True)


CACHED_STEP = Exercise(
    reference=cached_step,
    cases=step_cases,
    batched=(0, 1, 2, 3, 4),
    mistakes=(
        Mistake(
            position_zero,
            "The new query and key are not turned. A new token stands at position keys.shape[2], behind all that is kept.",
        ),
        Mistake(query_not_turned, "The key is turned and the query is not. Both must be, or the angle between them says nothing."),
        Mistake(key_not_turned, "The query is turned and the key is not. Both must be, or the angle between them says nothing."),
        Mistake(
            one_place_further,
            "One place too far. With `past` tokens kept, at positions 0 to past - 1, the new one stands at `past`.",
        ),
        Mistake(
            blind_for_itself,
            "The new token attends to the kept ones only. It sees itself as well: append its key and value *before* attending.",
        ),
        Mistake(nothing_kept, "The result is right, but what you keep is as before: the next token would not see this one."),
        Mistake(
            turned_twice,
            "The kept keys are turned a second time. They were turned when they came in, each by its own position, and never change again: "
            "that is what makes a cache worth while.",
        ),
        Mistake(value_turned, "Values are not turned: positions decide who is looked at, not what is seen there."),
        Mistake(
            put_in_front,
            "The new token is put before the kept ones. For this step that makes no difference, but the order must stay that of the text.",
        ),
        Mistake(
            causal_again,
            "is_causal=True builds a mask whose diagonal begins in the upper left corner: the one query then sees the very first key "
            "alone. A single new token may see everything, without any mask.",
        ),
    ),
    afterthought="Something to think of: nobody keeps queries. Why not?",
)

EXERCISES = {"causal_mask": CAUSAL_MASK, "rotary": ROTARY, "cached_step": CACHED_STEP}
