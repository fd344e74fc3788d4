"""Exercises of lesson 11: a conversation's labels, pictures of several tokens in a conversation, and LoRA."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from . import Exercise, Wrong

# ---- the labels of a conversation -------------------------------------------------------------------------------------

START, END, USER, ASSISTANT, LINE, PICTURE = 1, 2, 10, 11, 12, 5
OPENING = [START, ASSISTANT, LINE]


def conversation(*turns: tuple[list[int], list[int] | None]) -> list[int]:
    """What is asked and replied, as the template writes it; the last reply may be ``None``, cut off before it began."""
    row: list[int] = []
    for asked, reply in turns:
        row += [START, USER, LINE, *asked, END, LINE]
        row += [] if reply is None else [*OPENING, *reply, END, LINE]
    return row


def label_cases() -> list[tuple[Tensor, Tensor, list[int], int]]:
    def case(rows: list[list[int]], padding: int, left: bool = False, opening: list[int] = OPENING) -> tuple:
        longest = max(map(len, rows))
        fill = [[padding] * (longest - len(row)) for row in rows]
        real = [[1] * len(row) for row in rows]
        none = [[0] * len(each) for each in fill]
        ids = [more + row if left else row + more for row, more in zip(rows, fill, strict=True)]
        mask = [more + row if left else row + more for row, more in zip(real, none, strict=True)]
        return torch.tensor(ids), torch.tensor(mask), opening, END

    three = conversation(([PICTURE, PICTURE, 40, 41], [50, 51]), ([42], [52, 53, 54]), ([43, 44], [55]))
    word = conversation(([PICTURE, ASSISTANT, LINE, 45], [56, ASSISTANT, LINE, 57]), ([46], []))  # the word itself is said, one reply empty
    cut = conversation(([PICTURE, 47], [58, 59, 60, 61]))[:-3]  # the reply is longer than the row
    return [
        case([three, word], padding=0),
        case([three, cut], padding=END),  # as SmolLM2 pads
        case([conversation(([48], [62, 63])), word], padding=END, left=True),
        case([cut, conversation(([49, PICTURE, 40], None))], padding=START),
        case([[START, 20, 21, 22, 40, 41, END, START, 20, 23, 50, END, 0, START, 20, 23, 51, 52, END]], 0, opening=[START, 20, 23]),
    ]


def conversation_labels(
    ids: Tensor,
    mask: Tensor,
    opening: list[int],
    end: int,
    *,
    needed: Callable[[list[int]], list[int]] = lambda opening: opening,
    with_opening: bool = False,
    with_end: bool = True,
    beyond: int = 0,
    padding_read: bool = False,
) -> Tensor:
    """The rule, with what people get wrong as options: how much of the opening is looked for, what is scored around a reply."""
    labels = torch.full_like(ids, -100)
    looked_for = needed(opening)
    for row, (tokens, real) in enumerate(zip(ids.tolist(), mask.tolist(), strict=True)):
        inside, left = False, 0
        for place, token in enumerate(tokens):
            if not real[place] and not padding_read:
                inside = False
                continue
            if (inside and (with_end or token != end)) or left:
                labels[row, place] = token
            left = beyond if inside and token == end else max(0, left - 1)
            begins = place + 1 - len(looked_for)
            if token == end:
                inside = False
            elif not inside and begins >= 0 and tokens[begins : place + 1] == looked_for:
                inside = True
                if with_opening:
                    labels[row, begins : place + 1] = ids[row, begins : place + 1]
    return labels


def of_replies(right: Tensor, keep: Callable[[int, int], bool]) -> Tensor:
    """The labels of some replies only: ``keep(number, count)``, counted in the row from 0."""
    labels = right.clone()
    for row in labels:
        scored = row != -100
        number = (scored & ~F.pad(scored, (1, 0))[:-1]).cumsum(dim=0) - 1
        count = int(number[-1]) + 1
        for place in scored.nonzero()[:, 0].tolist():
            if not keep(int(number[place]), count):
                row[place] = -100
    return labels


CONVERSATION_LABELS = Exercise(
    reference=conversation_labels,
    cases=label_cases,
    batched=(0, 1),
    mistakes=dict(
        everything_scored=Wrong(lambda ids, mask: ids.masked_fill(mask == 0, -100)).hint("""
            Only padding is ignored. The model would learn to write the user's part as well, the template and the picture's placeholders:
            score what it shall say itself."""),
        nothing_ignored=Wrong(lambda ids: ids.clone()).hint("Nothing is ignored yet. Everything but the replies gets the label -100."),
        without_the_end=Wrong(partial(conversation_labels, with_end=False)).hint("""
            The end token of a reply is not scored, so the model never learns to stop. It is the last token of the reply."""),
        with_the_opening=Wrong(partial(conversation_labels, with_opening=True)).hint("""
            The opening is scored as well. The template writes it, not the model: the reply begins behind it. (Its first token is predicted
            *at* the last token of the opening; the loss shifts.)"""),
        every_end=Wrong(
            lambda right, ids, mask, end: torch.where((ids == end) & mask.bool(), ids, right),
            _and_padding=lambda right, ids, end: torch.where(ids == end, ids, right),
        ).hint("""
            All end tokens are scored, the user's too. The template closes every turn with the same token; only that of a reply is the
            model's own."""),
        one_beyond=Wrong(partial(conversation_labels, beyond=1)).hint("""
            One token too many: behind the end token comes the template's line break, which the model does not write."""),
        by_the_last_of_the_opening=Wrong(
            partial(conversation_labels, needed=lambda opening: opening[-1:]),
            by_its_last_two=partial(conversation_labels, needed=lambda opening: opening[-2:]),
        ).hint("""
            You do not look for the whole opening. Its tokens appear elsewhere too: a line break behind every role, and the word that names
            it in what somebody says. Only all of them in a row open a reply."""),
        by_the_first_of_the_opening=Wrong(partial(conversation_labels, needed=lambda opening: opening[:1])).hint("""
            The first token of the opening begins the user's turns as well. Only the whole opening begins a reply."""),
        last_reply_only=Wrong(lambda right: of_replies(right, lambda number, count: number == count - 1)).hint("""
            Only the last reply of a row is scored. All of them are the model's; a row with three teaches three times as much."""),
        first_reply_only=Wrong(lambda right: of_replies(right, lambda number, count: number == 0)).hint("""
            Only the first reply of a row is scored. Behind its end token the next turn begins, which has a reply, too."""),
        padding_scored=Wrong(partial(conversation_labels, padding_read=True)).hint("""
            You never read the mask. A reply that was cut off has no end token, and the padding behind it, which may be an end token, would
            count as a part of it."""),
        shifted=Wrong(lambda right: torch.cat([right[:, 1:], torch.full_like(right[:, :1], -100)], dim=1)).hint("""
            The labels are shifted by one. By convention labels stand at their tokens' own places and the loss shifts; shifted twice, the
            model would learn to skip a word."""),
        questions_scored=Wrong(lambda right, ids, mask: ids.masked_fill((right != -100) | (mask == 0), -100)).hint("""
            The wrong way round: the replies are ignored and the rest is scored."""),
        filled_with_zero=Wrong(lambda right: right.masked_fill(right == -100, 0)).hint("""
            0 is the id of a real token, and would be trained as one. -100 is what F.cross_entropy ignores."""),
    ),
    afterthought="Something to think of: of a row of three requests, which replies would change if the first one had been asked last?",
)

# ---- pictures in a conversation ---------------------------------------------------------------------------------------


def splicing_cases() -> list[tuple[Tensor, Tensor, int, list[Tensor]]]:
    generator = torch.Generator().manual_seed(11)

    def case(row: list[int], sizes: list[int], dim: int, image_token_id: int) -> tuple[Tensor, Tensor, int, list[Tensor]]:
        words = torch.randn(len(row), dim, generator=generator)
        return words, torch.tensor(row), image_token_id, [torch.randn(size, dim, generator=generator) for size in sizes]

    p = PICTURE
    return [
        case([1, p, 40, 41, 42, p, 43, 44], [3, 3], 4, p),
        case([1, 40, 9, 9, 41, 42], [2, 4], 5, 9),  # side by side, not of one size
        case([p, 40, 41], [1], 3, p),
        case([1, 40, 41, 42, p, 43, 44, p], [4, 1], 2, p),
        case([1, 0, 40, 41], [], 3, p),  # text alone
    ]


def splice_pictures(
    words: Tensor,
    ids: Tensor,
    image_token_id: int,
    pictures: list[Tensor],
    *,
    order: Callable[[list[Tensor]], list[Tensor]] = lambda pictures: pictures,
    keep: bool = False,
) -> Tensor:
    """The rule, with what people get wrong as options: another order of the pictures, placeholders that stay."""
    rest = iter(order(pictures))
    parts = [words[:0]]
    for word, number in zip(words, ids.tolist(), strict=True):
        if number == image_token_id:
            parts += [*([word[None]] if keep else []), next(rest)]
        else:
            parts.append(word[None])
    return torch.cat(parts)


def with_old_places(words: Tensor, ids: Tensor, image_token_id: int, pictures: list[Tensor]) -> Tensor:
    for place, picture in zip((ids == image_token_id).nonzero()[:, 0].tolist(), pictures, strict=True):
        words = torch.cat([words[:place], picture, words[place + 1 :]])
    return words


def in_place_of_what_follows(words: Tensor, ids: Tensor, image_token_id: int, pictures: list[Tensor]) -> Tensor:
    spliced = words.clone()
    for place, picture in zip((ids == image_token_id).nonzero()[:, 0].tolist(), pictures, strict=True):
        spliced[place : place + len(picture)] = picture[: len(spliced) - place]
    return spliced


SPLICE_PICTURES = Exercise(
    reference=splice_pictures,
    cases=splicing_cases,
    learning=(0,),
    mistakes=dict(
        backwards=Wrong(partial(splice_pictures, order=lambda pictures: pictures[::-1])).hint("""
            The pictures are exchanged: the first placeholder gets the last picture. The conversation would be about the other one."""),
        first_everywhere=Wrong(partial(splice_pictures, order=lambda pictures: pictures[:1] * len(pictures))).hint("""
            Every placeholder gets the first picture. Each has its own, in their order."""),
        turned=Wrong(partial(splice_pictures, order=lambda pictures: [picture.flip(0) for picture in pictures])).hint("""
            The tokens of each picture are in reverse. Their order is where in the picture they come from."""),
        averaged=Wrong(
            partial(splice_pictures, order=lambda pictures: [picture.mean(dim=0, keepdim=True) for picture in pictures])
        ).hint("""
            Each placeholder gets one vector, the mean of its picture. All the tokens of the picture go in, and the conversation becomes
            longer."""),
        first_token=Wrong(partial(splice_pictures, order=lambda pictures: [picture[:1] for picture in pictures])).hint("""
            Each placeholder gets the first token of its picture. All of them go in, and the conversation becomes longer."""),
        placeholders_kept=Wrong(partial(splice_pictures, keep=True)).hint("""
            The placeholder's own embedding stays before each picture. The picture takes its place; what the table holds for the
            placeholder means nothing."""),
        places_of_before=Wrong(with_old_places).hint("""
            The first picture is right and the second is not where it belongs: putting in the first made the row longer, and its place has
            moved. Collect the pieces from left to right and join them once; or go from the last placeholder to the first."""),
        words_lost=Wrong(in_place_of_what_follows).hint("""
            The pictures overwrite the words behind their placeholders. A picture of several tokens needs room: the row becomes longer."""),
        in_front=Wrong(lambda words, ids, image_token_id, pictures: torch.cat([*pictures, words[ids != image_token_id]])).hint("""
            All pictures stand in front. Each belongs where its placeholder is: "the first is a cat, the second" means nothing else."""),
        at_the_end=Wrong(lambda words, ids, image_token_id, pictures: torch.cat([words[ids != image_token_id], *pictures])).hint("""
            All pictures stand at the end. Each belongs where its placeholder is; words before a picture cannot see it."""),
        all_at_the_first=Wrong(
            lambda again, pictures: again(pictures=[torch.cat(pictures), *(each[:0] for each in pictures[1:])] if pictures else [])
        ).hint("All pictures stand in the place of the first placeholder. Each placeholder is one picture's."),
    ),
    afterthought="Something to think of: labels and mask have one entry for each id. What must become of them?",
)

# ---- LoRA -------------------------------------------------------------------------------------------------------------


def lora_cases() -> list[tuple[Tensor, Tensor, Tensor, Tensor, float]]:
    generator = torch.Generator().manual_seed(12)

    def case(alpha: float, batch: int, length: int, dim: int, out: int, rank: int, start: bool = False) -> tuple:
        x, weight, down, up = (
            torch.randn(*shape, generator=generator) for shape in ((batch, length, dim), (out, dim), (rank, dim), (out, rank))
        )
        return x, weight, down, 0 * up if start else up, alpha

    return [case(6.0, 2, 3, 5, 4, 2), case(8.0, 1, 4, 3, 6, 1), case(2.0, 2, 2, 4, 4, 4), case(16.0, 3, 1, 6, 5, 2, start=True)]


def lora(
    x: Tensor,
    weight: Tensor,
    down: Tensor,
    up: Tensor,
    alpha: float,
    *,
    scale: Callable[[float, int], float] = lambda alpha, rank: alpha / rank,
) -> Tensor:
    """The rule, with another scale as an option."""
    return F.linear(x, weight) + scale(alpha, len(down)) * F.linear(F.linear(x, down), up)


LORA = Exercise(
    reference=lora,
    cases=lora_cases,
    batched=(0,),
    learning=(0, 2, 3),
    mistakes=dict(
        scale_missing=Wrong(partial(lora, scale=lambda alpha, rank: 1.0)).hint("""
            The scale is missing: what is added is multiplied by alpha / rank. So the learning rate may stay when the rank changes."""),
        alpha_alone=Wrong(partial(lora, scale=lambda alpha, rank: alpha)).hint("""
            You multiply by alpha. It is alpha / rank: the product is a sum of rank terms, and shall not grow with their number."""),
        by_the_root=Wrong(partial(lora, scale=lambda alpha, rank: alpha / rank**0.5)).hint("""
            You divide by the root of the rank. That is a later proposal (rank-stabilised LoRA, Kalajdzievski 2023); the paper divides by
            the rank itself."""),
        turned_over=Wrong(partial(lora, scale=lambda alpha, rank: rank / alpha)).hint("The scale is upside down: it is alpha / rank."),
        by_the_width=Wrong(lambda again, x, down, alpha: again(alpha=alpha * len(down) / x.shape[-1])).hint("""
            You divide alpha by the width of x. The rank is the number of rows of down: len(down)."""),
        weight_scaled=Wrong(
            lambda x, weight, down, up, alpha: alpha / len(down) * (F.linear(x, weight) + F.linear(F.linear(x, down), up))
        ).hint("The frozen part is scaled, too. It stays as it is: with up at 0 the layer must be what it was."),
        frozen_part_forgotten=Wrong(lambda right, x, weight: right - F.linear(x, weight)).hint("""
            The frozen layer is missing: at the start the result would be 0, and the model would have forgotten everything."""),
        nothing_added=Wrong(lambda x, weight: F.linear(x, weight)).hint("""
            Only the frozen layer is left. That is right at the start, where up is 0, and not afterwards."""),
        product_detached=Wrong(
            lambda x, weight, down, up, alpha: F.linear(x, weight) + (alpha / len(down) * F.linear(F.linear(x, down), up)).detach(),
            weights_detached=lambda x, weight, down, up, alpha: F.linear(x, weight + (alpha / len(down) * up @ down).detach()),
        ).hint("""
            The result is right, and what is to learn is cut off: no gradient comes to down and up. The frozen weight needs none, and may be
            detached; these two need theirs."""),
        input_detached=Wrong(
            lambda x, weight, down, up, alpha: F.linear(x, weight) + alpha / len(down) * F.linear(F.linear(x.detach(), down), up),
            frozen_part_detached=lambda x, weight, down, up, alpha: (
                F.linear(x, weight).detach() + alpha / len(down) * F.linear(F.linear(x, down), up)
            ),
        ).hint("""
            The result is right, but part of the gradient of x is lost. The layers below need it, through the frozen weight as well: frozen
            is the weight, not what passes it."""),
    ),
    afterthought="Something to think of: down starts random, up at 0. What if both started at 0?",
)

EXERCISES = {"conversation_labels": CONVERSATION_LABELS, "splice_pictures": SPLICE_PICTURES, "lora": LORA}
