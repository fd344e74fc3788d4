"""The words of the generated world: what things are called, where they are, how many there are. Every text is made of these alone."""

SHAPES = ("circle", "ring", "square", "triangle", "diamond", "cross", "star", "heart")
COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan", "orange", "white")
SIZES = ("small", "large")
ORDINALS = ("first", "second", "third", "fourth")

_ONES = tuple(
    "zero one two three four five six seven eight nine ten".split()
    + "eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
)
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty")
_ROWS = {1: ("",), 2: ("top", "bottom"), 3: ("top", "middle", "bottom")}
_COLUMNS = {1: ("",), 2: ("left", "right"), 3: ("left", "centre", "right")}

LARGEST_GRID = 8


def number(value: int) -> str:
    """``3`` -> ``"three"``, ``24`` -> ``"twenty four"``; 0 to 69."""
    if not 0 <= value < 70:
        raise ValueError(f"numbers from 0 to 69 have words here, got {value}")
    if value < 20:
        return _ONES[value]
    tens, ones = divmod(value, 10)
    return _TENS[tens] + (f" {_ONES[ones]}" if ones else "")


def article(word: str) -> str:
    """``a``, or ``an`` before the one word that wants it."""
    return "an" if word == "orange" else "a"


def places(grid: tuple[int, int]) -> tuple[str, ...]:
    """What each cell of a grid of ``(rows, columns)`` is called, row by row.

    A side of two is called top and bottom, left and right; a side of three has a middle or a centre; longer ones are counted:
    ``(2, 2)`` -> ``top left, top right, bottom left, bottom right``; ``(6, 6)`` -> ``row one column one, ...``. The single cell of a
    ``(1, 1)`` grid has no name, the empty string.
    """
    rows, columns = grid
    if max(grid) > 3:
        row_words = [f"row {number(r + 1)}" if rows > 1 else "" for r in range(rows)]
        column_words = [f"column {number(c + 1)}" if columns > 1 else "" for c in range(columns)]
    else:
        row_words, column_words = _ROWS[rows], _COLUMNS[columns]
    return tuple(f"{row} {column}".strip() for row in row_words for column in column_words)


def at_place(grid: tuple[int, int]) -> tuple[str, ...]:
    """As :func:`places`, as a phrase: ``at the top left``, ``at row one column one``, or the empty string."""
    the = "at " if max(grid) > 3 else "at the "
    return tuple(the + name if name else "" for name in places(grid))


_GRAMMAR = (
    "? , and a an the there is are what where how many at in of as same colour shape size object objects picture "
    "left right above below top bottom middle centre row column yes no"
)

WORDS: tuple[str, ...] = tuple(
    dict.fromkeys([*_GRAMMAR.split(), *SHAPES, *COLOURS, *SIZES, *ORDINALS, *_ONES, *(word for word in _TENS if word)])
)
"""The closed vocabulary: no caption, question or answer contains any other word. Its order is fixed."""

WORD_IDS = {word: index for index, word in enumerate(WORDS)}
