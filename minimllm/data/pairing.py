"""Batches of pictures with captions for contrastive learning: what to put beside what, and which captions fit which pictures."""

import dataclasses

import torch
from jaxtyping import Bool
from torch import Tensor

from minimllm.data.captioning import DETAILS, captions
from minimllm.data.composing import changed, join
from minimllm.data.seeds import derive_seed, generator_for
from minimllm.data.world import Scenes, pairs_of, scenes


def described(
    world: Scenes, seed: int, details: tuple[str, ...] = DETAILS, several: str | None = None
) -> tuple[list[str], Bool[Tensor, "scenes scenes"]]:
    """A caption for each scene, in one of ``details`` drawn for it, and a table of what is true.

    A caption that says little is true of many pictures: ``a star`` of every star. Entry ``(i, j)`` of the table is whether caption ``j`` is
    true of picture ``i``, that is, whether it is what scene ``i`` would be called in as much detail. Where it is and ``i`` is not ``j``,
    the two are no negatives: see ``same`` of :func:`minimllm.contrastive_loss`.

    Scenes of more than one object are described in the detail ``several``; ``None``: in any of ``details``, like the others.
    """
    choice = torch.randint(len(details), (len(world),), generator=generator_for(seed, "details"))
    if several is not None:
        details = (*details, several)
        choice[world.count > 1] = len(details) - 1
    in_detail = [captions(world, detail) for detail in details]
    texts = [in_detail[number][row] for row, number in enumerate(choice.tolist())]
    fits = torch.zeros(len(world), len(world), dtype=torch.bool)
    for number, named in enumerate(in_detail):
        numbers = {text: index for index, text in enumerate(dict.fromkeys(named))}
        name = torch.tensor([numbers[text] for text in named], dtype=torch.long)
        columns = choice == number
        fits[:, columns] = name[:, None] == name[None, columns]
    return texts, fits


def look_alikes(n: int, seed: int, step: int, split: str = "train", shapes: int = 4) -> Scenes:
    """``n`` single objects, each followed by its hard negatives, which differ from it in one thing alone.

    They are ``shapes`` other shapes, one other colour, and another size or place: ``n * (shapes + 3)`` scenes. Beside them a picture cannot
    be told by the rest of what it shows, so the encoder has to look at what differs. Most differ in shape, the hardest thing to see.

    Raises:
        ValueError: more other ``shapes`` than the split has for each colour.
    """
    base = scenes(n, seed, split, objects=1, start=step * n)
    allowed = pairs_of(split)[:, base.colour[:, 0]].T.clone()
    allowed[torch.arange(n), base.shape[:, 0]] = False
    if n and shapes > int(allowed.sum(1).min()):
        raise ValueError(f"in the split {split!r} a colour has {int(allowed.sum(1).min())} other shapes; {shapes} were asked for")
    luck = torch.rand(n, allowed.shape[1], generator=generator_for(seed, "other shapes", step))
    others = luck.masked_fill(~allowed, -1).argsort(dim=1, descending=True)[:, :shapes]
    variants = [dataclasses.replace(base, shape=others[:, [number]]) for number in range(shapes)]
    middle = n // 2
    variants.append(changed(base, "colour", derive_seed(seed, "colour", step)))
    variants.append(join([changed(base[:middle], "size"), changed(base[middle:], "place", derive_seed(seed, "place", step))]))
    return join([base, *variants])


def rearranged(n: int, seed: int, step: int, split: str = "train") -> Scenes:
    """``n`` scenes of two to four objects, the same with one other shape, and the same with the shapes of two objects exchanged.

    The last has the very same words in its caption: only which shape has which colour tells them apart. Where the exchange would make a
    pair of shape and colour that the split may not show, it is left out, so there are ``2 * n`` to ``3 * n`` scenes.
    """
    base = scenes(n, seed, split, objects=(2, 4), start=step * n)
    shape, colour, allowed = base.shape, base.colour, pairs_of(split)
    exchanged = torch.cat([shape[:, [1, 0]], shape[:, 2:]], dim=1)
    possible = allowed[exchanged[:, :2], colour[:, :2]].all(1) & (colour[:, 0] != colour[:, 1])
    return join([base, changed(base, "shape", derive_seed(seed, "shape", step)), dataclasses.replace(base, shape=exchanged)[possible]])
