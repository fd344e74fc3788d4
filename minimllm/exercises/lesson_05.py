"""Exercises of lesson 05: the causal mask, rotary positions, one step with a cache."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from minimllm.layers import attention, masks
from minimllm.layers.rotary import rotary_angles, rotary_frequencies

from . import Exercise, Wrong

# ---- the mask ---------------------------------------------------------------------------------------------------------


def causal(length: int, past: int) -> Tensor:
    return masks.causal_mask(length, past=past)


def everything(length: int, past: int) -> Tensor:
    return torch.ones(length, past + length, dtype=torch.bool)


CAUSAL_MASK = Exercise(
    reference=causal,
    cases=lambda: [(5, 0), (3, 4), (1, 6), (4, 1)],
    mistakes=dict(
        past_forgotten=Wrong(lambda length, past: everything(length, past).tril()).hint("""
            Right without a past, but with one the first new token sees key 0 alone. All kept tokens lie before it: the diagonal begins
            `past` columns further right, .tril(past)."""),
        new_tokens_only=Wrong(lambda length: everything(length, 0).tril()).hint("""
            The keys are the kept ones and the new ones together: there must be past + length columns."""),
        not_itself=Wrong(lambda length, past: everything(length, past).tril(past - 1)).hint("""
            No token may see itself here. It must: token i is known when token i + 1 is guessed. And the first row would have nothing to
            attend to, so that its softmax is 0 / 0."""),
        the_future=Wrong(lambda length, past: everything(length, past).triu(past)).hint("""
            The other triangle: your tokens see themselves and what comes *after* them."""),
        forbidden_for_allowed=Wrong(lambda right: ~right).hint("""
            True and False are exchanged. In this course, as in scaled_dot_product_attention, True means: may attend."""),
        one_too_far=Wrong(lambda length, past: everything(length, past).tril(past + 1)).hint("""
            Each token also sees the one after it, which is just the one that it shall guess. In training the loss would fall to nearly
            zero, and the model could write nothing."""),
        parts_exchanged=Wrong(lambda right, length, past: torch.cat([right[:, past:], right[:, :past]], dim=1)).hint("""
            The two parts are exchanged: your first columns are the new tokens, your last ones the kept. The keys come in the order of the
            text: first those kept, all of them allowed, then the new ones with their triangle."""),
        upright=Wrong(lambda right: right.T.contiguous()).hint("""
            Rows and columns are exchanged: a row is a token that asks, a column one that is looked at."""),
        added_to_scores=Wrong(lambda right: torch.zeros(right.shape).masked_fill(~right, float("-inf"))).hint("""
            This is a mask to *add* to the scores, 0 and -inf. scaled_dot_product_attention takes that form too; asked for is bool."""),
        ones_and_zeros=Wrong(lambda right: right.float()).hint("""
            Right, but in floats. scaled_dot_product_attention would *add* such a mask to the scores, which forbids nothing. Use bool."""),
        square=Wrong(lambda again, length, past: again(length=past + length, past=0)).hint("""
            Only the new tokens ask: one row for each of them, length rows in all. The kept tokens were done before."""),
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


Turn = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def rotation(first: Tensor, second: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    return first * cos - second * sin, second * cos + first * sin


def turned(x: Tensor, positions: Tensor, base: float, *, clock: Callable = torch.mul, turn: Turn = rotation) -> Tensor:
    """The rotation of pairs of the two halves by hand, with what people get wrong as options."""
    angles = clock(positions[:, None], rotary_frequencies(x.shape[-1], base))
    return torch.cat(turn(*x.chunk(2, dim=-1), angles.cos(), angles.sin()), dim=-1)


def neighbours_paired(again, x):
    pairs = torch.cat([x[..., 0::2], x[..., 1::2]], dim=-1)
    return torch.stack(again(x=pairs).chunk(2, dim=-1), dim=-1).flatten(-2)


ROTARY = Exercise(
    reference=rotary,
    cases=rotary_cases,
    batched=(0,),
    mistakes=dict(
        neighbours_paired=Wrong(neighbours_paired).hint("""
            You pair neighbours, numbers 0 and 1, 2 and 3. So does the paper, and Meta's own code; the weights on the hub, and this course,
            pair number i with number i + head_dim / 2. Both work, but not with each other's weights."""),
        turned_backwards=Wrong(lambda again, positions: again(positions=-positions)).hint("""
            Turned the wrong way round. A model that learns with it would do as well, but weights that were learned with the other would
            not. Asked for is (a, b) -> (a cos - b sin, b cos + a sin)."""),
        one_speed=Wrong(lambda again: again(base=1.0)).hint("""
            All pairs turn equally fast, one radian a place: after 6.28 places everything looks nearly as before. Pair i turns base ** (-2 i
            / head_dim) radians a place."""),
        exponent_halved=Wrong(lambda again, base: again(base=base**0.5)).hint("""
            The frequencies do not fall far enough: the exponent of pair i is 2 i / head_dim (that is i over the number of *pairs*), not i /
            head_dim."""),
        exponent_doubled=Wrong(lambda again, base: again(base=base**2)).hint("""
            The frequencies fall too far: you divide 2 i by head_dim / 2, the number of pairs. i already counts pairs, so the exponent is -2
            i / head_dim (or -i over the number of pairs)."""),
        speeding_up=Wrong(partial(turned, clock=torch.div)).hint("""
            The frequencies grow from pair to pair. The exponent is negative: base ** (-2 i / head_dim)."""),
        slowest_first=Wrong(partial(turned, clock=lambda positions, frequencies: positions * frequencies.flip(-1))).hint("""
            The frequencies are in the wrong order: pair 0 turns fastest, one radian a place."""),
        sign_forgotten=Wrong(
            partial(turned, turn=lambda first, second, cos, sin: (first * cos + second * sin, second * cos + first * sin))
        ).hint("A minus is missing: the first number of a pair becomes a cos - b sin. Yours is no rotation."),
        sine_and_cosine_exchanged=Wrong(partial(turned, turn=lambda first, second, cos, sin: rotation(first, second, sin, cos))).hint("""
            Sine and cosine are exchanged: at position 0, where nothing turns, x must come out unchanged."""),
        counted_from_zero=Wrong(lambda again, positions: again(positions=torch.arange(len(positions)))).hint("""
            You count the places yourself, from 0. Use the positions given: behind a cache, the first new token is not number 0."""),
        counted_from_one=Wrong(lambda again, positions: again(positions=positions + 1)).hint("""
            One place too far: position 0 must leave x unchanged."""),
        added=Wrong(partial(turned, turn=lambda first, second, cos, sin: (first + cos, second + sin))).hint("""
            You add sines and cosines, as the first transformer did with its embeddings. Rotary positions *turn*, so lengths stay."""),
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


def at(x: Tensor, position: int) -> Tensor:
    return rotary(x, torch.arange(position, position + x.shape[2]), 10_000.0)


def put(first: Tensor, second: Tensor) -> Tensor:
    return torch.cat([first, second], dim=2)


def cached_step(
    query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor, *, turn_query=at, turn_key=at, append=put, **options
) -> Step:
    """One step, with what people get wrong as options; without them it is right."""
    place = keys.shape[2]
    keys, values = append(keys, turn_key(key, place)), append(values, value)
    return F.scaled_dot_product_attention(turn_query(query, place), keys, values, **options), keys, values


def as_it_is(x: Tensor, place: int) -> Tensor:
    return x


def further(x: Tensor, place: int) -> Tensor:
    return at(x, place + 1)


CACHED_STEP = Exercise(
    reference=cached_step,
    cases=step_cases,
    batched=(0, 1, 2, 3, 4),
    mistakes=dict(
        position_zero=Wrong(partial(cached_step, turn_query=as_it_is, turn_key=as_it_is)).hint("""
            The new query and key are not turned. A new token stands at position keys.shape[2], behind all that is kept."""),
        query_not_turned=Wrong(partial(cached_step, turn_query=as_it_is)).hint("""
            The key is turned and the query is not. Both must be, or the angle between them says nothing."""),
        key_not_turned=Wrong(partial(cached_step, turn_key=as_it_is)).hint("""
            The query is turned and the key is not. Both must be, or the angle between them says nothing."""),
        one_place_further=Wrong(partial(cached_step, turn_query=further, turn_key=further)).hint("""
            One place too far. With `past` tokens kept, at positions 0 to past - 1, the new one stands at `past`."""),
        not_scaled=Wrong(partial(cached_step, scale=1.0)).hint("""
            The scores are not scaled: divide them by the square root of head_dim before the softmax, as in every attention."""),
        scaled_without_root=Wrong(lambda again, query: again(scale=1 / query.shape[-1])).hint("""
            The scores are divided by head_dim itself. It is their standard deviation that grows with the width, so divide by the square
            root."""),
        blind_for_itself=Wrong(
            lambda right, query, keys, values: (F.scaled_dot_product_attention(at(query, keys.shape[2]), keys, values), *right[1:])
        ).hint("""
            The new token attends to the kept ones only. It sees itself as well: append its key and value *before* attending."""),
        nothing_kept=Wrong(lambda right, keys, values: (right[0], keys, values)).hint("""
            The result is right, but what you keep is as before: the next token would not see this one."""),
        turned_twice=Wrong(lambda again, key, keys: again(key=at(key, keys.shape[2]), keys=at(keys, 0), turn_key=as_it_is)).hint("""
            The kept keys are turned a second time. They were turned when they came in, each by its own position, and never change again:
            that is what makes a cache worth while."""),
        value_turned=Wrong(lambda again, value, keys: again(value=at(value, keys.shape[2]))).hint("""
            Values are not turned: positions decide who is looked at, not what is seen there."""),
        put_in_front=Wrong(partial(cached_step, append=lambda kept, new: put(new, kept))).hint("""
            The new token is put before the kept ones. For this step that makes no difference, but the order must stay that of the
            text."""),
        causal_again=Wrong(partial(cached_step, is_causal=True)).hint("""
            is_causal=True builds a mask whose diagonal begins in the upper left corner: the one query then sees the very first key alone. A
            single new token may see everything, without any mask."""),
    ),
    afterthought="Something to think of: nobody keeps queries. Why not?",
)

EXERCISES = {"causal_mask": CAUSAL_MASK, "rotary": ROTARY, "cached_step": CACHED_STEP}
