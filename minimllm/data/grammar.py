"""The grammar of questions: one function per kind writes the words of many questions at once, as indices into ``WORDS``."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minimllm.data import chance
from minimllm.data.words import COLOURS, SHAPES, SIZES, WORD_IDS, article, at_place, number, places
from minimllm.data.world import Scenes, pairs_of


def phrase_table(phrases: list[str] | tuple[str, ...]) -> np.ndarray:
    """Word indices (phrases, most words), padded at the end with -1."""
    words = [[WORD_IDS[word] for word in phrase.split()] for phrase in phrases]
    longest = max(map(len, words))
    return np.array([row + [-1] * (longest - len(row)) for row in words], dtype=np.int64).reshape(len(phrases), longest)


_SHAPE_WORDS, _COLOUR_WORDS, _SIZE_WORDS = phrase_table(SHAPES), phrase_table(COLOURS), phrase_table(SIZES)
_NUMBER_WORDS = phrase_table([number(value) for value in range(65)])
_ARTICLES = phrase_table([article(colour) for colour in COLOURS])
_ANSWERS = phrase_table(("no", "yes"))
_DIRECTIONS = phrase_table(("left of", "right of", "above", "below"))

# How often to ask for a colour that the scene lacks, has once, has more often. With one to four objects the answers zero and one then
# come about equally often; colours that come twice are asked for more, since few scenes have one.
_COLOUR_COUNT_WEIGHTS = np.array([5, 6, 12])


def sentence(*parts: str | np.ndarray) -> np.ndarray:
    """Puts fixed words and columns of words ``(rows, words)`` one after another, and moves the padding to the end."""
    rows = next(len(part) for part in parts if not isinstance(part, str))
    columns = [np.repeat(phrase_table([part]), rows, 0) if isinstance(part, str) else part for part in parts]
    words = np.concatenate(columns, axis=1)
    if (words[:, :-1] < 0).any():
        words = np.take_along_axis(words, (words < 0).argsort(1, kind="stable"), 1)
    return words


@dataclass(frozen=True)
class Facts:
    """What is known of each scene that a question is asked about, one row per question."""

    shape: np.ndarray
    colour: np.ndarray
    size: np.ndarray
    cell: np.ndarray
    grid: tuple[int, int]
    pairs: np.ndarray
    place_words: np.ndarray
    at_place_words: np.ndarray

    @classmethod
    def about(cls, scenes: Scenes) -> "Facts":
        fields = [field.numpy() for field in (scenes.shape, scenes.colour, scenes.size, scenes.cell)]
        grid = scenes.grid
        return cls(*fields, grid, pairs_of(scenes.split).numpy(), phrase_table(places(grid)), phrase_table(at_place(grid)))

    def of(self, rows: np.ndarray) -> "Facts":
        """The facts of some scenes, in the order given."""
        fields = [field[rows] for field in (self.shape, self.colour, self.size, self.cell)]
        return Facts(*fields, self.grid, self.pairs, self.place_words, self.at_place_words)

    @property
    def present(self) -> np.ndarray:
        return self.shape >= 0

    @property
    def count(self) -> np.ndarray:
        return self.present.sum(1)

    def an_object(self, luck: np.ndarray, but: np.ndarray | None = None) -> np.ndarray:
        """Any object, equally likely, but for one: its column in each row."""
        allowed = self.present
        if but is not None:
            allowed[np.arange(len(but)), but] = False
        return chance.pick(allowed, luck)

    def the(self, which: np.ndarray, colour_is_asked: bool = False) -> np.ndarray:
        """How object ``which`` is called: ``the star``, where there are others ``the red star`` or ``the star at row one column two``."""
        shape = _at(self.shape, which)
        alone = ((self.shape == shape[:, None]).sum(1) == 1)[:, None]
        parts = ["the", _SHAPE_WORDS[shape]]
        if not alone.all():
            if colour_is_asked:
                parts.append(np.where(alone, -1, self.at_place_words[_at(self.cell, which)]))
            else:
                parts.insert(1, np.where(alone, -1, _COLOUR_WORDS[_at(self.colour, which)]))
        return sentence(*parts)


def _at(values: np.ndarray, which: np.ndarray) -> np.ndarray:
    return values[np.arange(len(which)), which]


Written = tuple[np.ndarray, np.ndarray]


def _ask_colour(facts: Facts, luck: np.ndarray) -> Written:
    which = facts.an_object(luck[:, 0])
    return sentence("what colour is", facts.the(which, colour_is_asked=True), "?"), _COLOUR_WORDS[_at(facts.colour, which)]


def _ask_shape(facts: Facts, luck: np.ndarray) -> Written:
    which = facts.an_object(luck[:, 0])
    colour = _at(facts.colour, which)
    alone = (facts.colour == colour[:, None]).sum(1) == 1
    by_colour = (alone & ((luck[:, 1] < 0.5) | (facts.grid == (1, 1))))[:, None]
    colour_words = np.where(by_colour, _COLOUR_WORDS[colour], -1)
    place_words = np.where(by_colour, -1, facts.at_place_words[_at(facts.cell, which)])
    return sentence("what shape is the", colour_words, "object", place_words, "?"), _SHAPE_WORDS[_at(facts.shape, which)]


def _ask_size(facts: Facts, luck: np.ndarray) -> Written:
    which = facts.an_object(luck[:, 0])
    return sentence("what size is", facts.the(which), "?"), _SIZE_WORDS[_at(facts.size, which)]


def _ask_count(facts: Facts, luck: np.ndarray) -> Written:
    question = np.repeat(phrase_table(["how many objects are there ?"]), len(luck), 0)
    return question, _NUMBER_WORDS[facts.count]


def _ask_count_colour(facts: Facts, luck: np.ndarray) -> Written:
    tally = (facts.colour[:, :, None] == np.arange(8)).sum(1)
    often = np.minimum(tally, 2)
    weights = (often[:, None] == np.arange(3)[:, None]).any(2) * _COLOUR_COUNT_WEIGHTS
    wanted = (weights.cumsum(1) <= luck[:, :1] * weights.sum(1, keepdims=True)).sum(1)
    colour = chance.pick(often == wanted[:, None], luck[:, 1])
    return sentence("how many", _COLOUR_WORDS[colour], "objects are there ?"), _NUMBER_WORDS[_at(tally, colour)]


def _ask_where(facts: Facts, luck: np.ndarray) -> Written:
    which = facts.an_object(luck[:, 0])
    return sentence("where is", facts.the(which), "?"), facts.place_words[_at(facts.cell, which)]


def _ask_exists(facts: Facts, luck: np.ndarray) -> Written:
    pair = np.where(facts.present, 8 * facts.shape + facts.colour, -1)
    there = (pair[:, :, None] == np.arange(64)).any(1)
    has_shape = (facts.shape[:, :, None] == np.arange(8)).any(1)
    has_colour = (facts.colour[:, :, None] == np.arange(8)).any(1)
    missing = facts.pairs.reshape(64) & ~there
    near = missing & (has_shape[:, :, None] | has_colour[:, None]).reshape(-1, 64)
    missing = np.where(near.any(1, keepdims=True), near, missing)
    yes = (luck[:, 0] < 0.5) | ~missing.any(1)
    asked = np.where(yes, chance.pick(there, luck[:, 1]), chance.pick(missing, luck[:, 1]))
    shape, colour = asked // 8, asked % 8
    return sentence("is there", _ARTICLES[colour], _COLOUR_WORDS[colour], _SHAPE_WORDS[shape], "?"), _ANSWERS[yes.astype(int)]


def _ask_relation(facts: Facts, luck: np.ndarray) -> Written:
    one = facts.an_object(luck[:, 0])
    other = facts.an_object(luck[:, 1], but=one)
    (row, column), (other_row, other_column) = (np.divmod(_at(facts.cell, which), facts.grid[1]) for which in (one, other))
    vertical = chance.pick(np.stack([column != other_column, row != other_row], axis=1), luck[:, 2])
    after = np.where(vertical, row > other_row, column > other_column)
    yes = luck[:, 3] < 0.5
    direction = 2 * vertical + (after == yes)
    return sentence("is", facts.the(one), _DIRECTIONS[direction], facts.the(other), "?"), _ANSWERS[yes.astype(int)]


def _ask_comparison(facts: Facts, luck: np.ndarray) -> Written:
    """Colours in three of four scenes that allow a fair question about them, else sizes, which are equal half the time by themselves."""
    objects = facts.shape.shape[1]
    pairs = facts.present[:, :, None] & facts.present[:, None] & ~np.eye(objects, dtype=bool)
    same = pairs & (facts.colour[:, :, None] == facts.colour[:, None])
    both = same.any((1, 2)) & (pairs & ~same).any((1, 2))
    of_colour = (both | (facts.count == 2)) & (luck[:, 0] < 0.75)

    wanted = np.where(both[:, None, None], np.where(luck[:, 1, None, None] < 0.5, same, pairs & ~same), pairs)
    wanted = np.where(of_colour[:, None, None], wanted, pairs)
    one, other = np.divmod(chance.pick(wanted.reshape(-1, objects**2), luck[:, 2]), objects)
    what = np.where(of_colour[:, None], phrase_table(["colour"]), phrase_table(["size"]))
    equal = np.where(of_colour, _at(facts.colour, one) == _at(facts.colour, other), _at(facts.size, one) == _at(facts.size, other))
    first, second = facts.the(one, colour_is_asked=True), facts.the(other, colour_is_asked=True)
    return sentence("is", first, "the same", what, "as", second, "?"), _ANSWERS[equal.astype(int)]


WRITERS: dict[str, Callable[[Facts, np.ndarray], Written]] = {
    "colour": _ask_colour,
    "shape": _ask_shape,
    "size": _ask_size,
    "count": _ask_count,
    "count_colour": _ask_count_colour,
    "where": _ask_where,
    "exists": _ask_exists,
    "relation": _ask_relation,
    "comparison": _ask_comparison,
}
