"""Sequences of words and pictures: a sentence token by token, with what is scored; and who may attend to whom in it."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import ArrayLike

from .numbers import as_numbers
from .page import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, SKY, VERMILION, own_axes, placed, style
from .pictures import Picture, as_array

ROLES: Mapping[str, str] = {
    "start": GREY,
    "picture": GREEN,
    "question": BLUE,
    "answer": VERMILION,
    "padding": "#C4C4C4",
    "second picture": "#00614A",
    "second question": SKY,
    "second answer": ORANGE,
    "third question": PURPLE,
    "third answer": "#8A4A70",
}
"""What a token may be, and its colour in these figures."""

_GAP, _CHARACTER, _MARGIN = 0.045, 0.078, 0.09  # inches


def _pale(role: str, share: float = 0.35) -> tuple[float, ...]:
    if role not in ROLES:
        raise ValueError(f"unknown role {role!r} of a token; choose one of {', '.join(ROLES)}")
    return tuple(1 - share * (1 - channel) for channel in to_rgb(ROLES[role]))


def _width(word: str | Picture) -> float:
    return _CHARACTER * max(len(word), 1) + 2 * _MARGIN if isinstance(word, str) else 0.34


@style()
def token_row(
    words: Sequence[str | Picture],
    roles: Sequence[str],
    labels: Sequence[str] | None = None,
    *,
    title: str = "",
    legend: bool = True,
    width: float = 7.2,
) -> Figure:
    """A sequence as boxes in the order of reading, in as many lines as it takes.

    Args:
        words: the text of each token, or a picture: the patch that it stands for.
        roles: what each is, of :data:`ROLES`; it decides the colour.
        labels: what stands below each token, such as the word that is scored there; ``""`` for a token that is ignored, drawn as a dot.
        title, legend: above it.
        width: of the figure in inches, where the lines are broken.
    """
    if len(words) != len(roles) or (labels is not None and len(labels) != len(words)):
        given = "no" if labels is None else len(labels)
        raise ValueError(f"{len(words)} tokens need as many roles and labels, got {len(roles)} and {given}")
    labelled = labels is not None
    line_height, lines, reach = 0.66 if labelled else 0.44, [[]], 0.0
    for place, word in enumerate(words):
        box = max(_width(word), _width(labels[place]) if labelled else 0.0) + _GAP
        if reach + box > width and lines[-1]:
            lines.append([])
            reach = 0.0
        lines[-1].append((place, reach, box - _GAP))
        reach += box
    head = (0.3 if title else 0.0) + (0.3 if legend else 0.0)
    height = head + line_height * len(lines)
    figure, (axes,) = placed(width, height, (0, 0, width, height))
    for number, line in enumerate(lines):
        top = head + number * line_height + 0.04
        for place, left, box in line:
            _token(axes, words[place], roles[place], labels[place] if labelled else None, left, top, box)
    if title:
        axes.text(0, 0.16, title, fontweight="bold", fontsize=11, va="center")
    if legend:
        handles = [Patch(facecolor=_pale(role), edgecolor=ROLES[role], label=role) for role in dict.fromkeys(roles)]
        bottom = 1 - (0.3 if title else 0.0) / height
        tight = {"frameon": False, "borderaxespad": 0, "fontsize": 9, "handlelength": 1.1, "handletextpad": 0.4, "columnspacing": 1.1}
        axes.legend(handles=handles, ncols=len(handles), loc="upper left", bbox_to_anchor=(0, bottom), borderpad=0.2, **tight)
    axes.set(xlim=(-0.02, width), ylim=(height, 0))
    axes.set_axis_off()
    return figure


def _token(axes: Axes, word: str | Picture, role: str, label: str | None, left: float, top: float, box: float) -> None:
    middle = left + box / 2
    axes.add_patch(Rectangle((left, top), box, 0.32, facecolor=_pale(role), edgecolor=ROLES[role], linewidth=1))
    if isinstance(word, str):
        axes.text(middle, top + 0.17, word, ha="center", va="center", fontsize=9)
    else:
        axes.imshow(as_array(word), extent=(middle - 0.13, middle + 0.13, top + 0.29, top + 0.03), aspect="auto", zorder=3)
    if label:
        axes.text(middle, top + 0.45, label, ha="center", va="center", fontsize=9, fontweight="bold", color=INK)
    elif label is not None:
        axes.text(middle, top + 0.45, "·", ha="center", va="center", fontsize=9, color=GREY)


@style()
def attention_mask(
    attend: ArrayLike,
    words: Sequence[str],
    roles: Sequence[str],
    *,
    title: str = "",
    highlight: int | None = None,
    legend: bool = True,
    axes: Axes | None = None,
) -> Figure:
    """Who may attend to whom: a row for each token that looks, a column for each that is looked at, in the colour of its role.

    Args:
        attend: bool ``(tokens, tokens)``, True = may attend.
        words: the text of each token.
        roles: of :data:`ROLES`.
        highlight: the row to frame.
        title, legend, axes: as in the other figures.
    """
    allowed = as_numbers(attend).astype(bool)
    count = len(words)
    if allowed.shape != (count, count) or len(roles) != count:
        raise ValueError(f"{count} tokens need a mask of {count} × {count} and as many roles, got {allowed.shape} and {len(roles)}")
    axes = own_axes(axes, min(7.2, 1.6 + 0.19 * count), min(6.8, 1.5 + 0.19 * count))
    colours = np.array([_pale(role, 0.75) for role in roles])
    shown = np.where(allowed[..., None], colours[None], 1.0)
    axes.imshow(shown, interpolation="nearest", aspect="equal")
    thin = {"color": "#DDDDDD", "linewidth": 0.5}
    axes.hlines(np.arange(1, count) - 0.5, -0.5, count - 0.5, **thin)
    axes.vlines(np.arange(1, count) - 0.5, -0.5, count - 0.5, **thin)
    size = max(4.5, min(8.5, 190 / max(count, 1)))
    axes.set_xticks(range(count), words, rotation=90, fontsize=size)
    axes.set_yticks(range(count), words, fontsize=size)
    axes.tick_params(length=0, pad=2, top=True, labeltop=True, bottom=False, labelbottom=False)
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        for label, role in zip(labels, roles, strict=True):
            label.set_color(tuple(0.75 * channel for channel in to_rgb(ROLES[role])) if role != "padding" else GREY)
    if highlight is not None:
        axes.add_patch(Rectangle((-0.5, highlight - 0.5), count, 1, fill=False, edgecolor=INK, linewidth=1.6, zorder=4))
    axes.spines[:].set(visible=True, color="#BBBBBB", linewidth=0.6)
    axes.set(ylabel="the token that looks")
    axes.set_title(title)
    if legend:
        handles = [Patch(facecolor=_pale(role, 0.75), label=role) for role in dict.fromkeys(roles)]
        axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False)
    return axes.figure
