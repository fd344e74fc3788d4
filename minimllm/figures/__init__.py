"""The course's figures, in one style: a drawing function returns a matplotlib ``Figure``; ``show`` puts it on the page with its alt text.

Colours are those of Okabe and Ito (2008), which readers with any common form of colour blindness can tell apart.
"""

from .designs import amount, design_costs
from .numbers import confusion_matrix, curves, layer_cost, matrix, position_similarity
from .page import (
    AMOUNT,
    ASSETS,
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE,
    PURPLE,
    SIGNED,
    SKY,
    VERMILION,
    beside,
    canvas,
    image_tag,
    placed,
    png,
    show,
    show_source,
    style,
)
from .pairs import MARKS, TARGETS, embedding_map, gallery, similarity, targets
from .pictures import Picture, as_array, attention_map, patch_grid, patch_sequence, picture
from .processes import HELD, held
from .sequences import ROLES, attention_mask, token_row
from .shares import bars
from .splitting import splitting
from .tiles import PICTURE_COLOURS, canvas_choice, feature_order, picture_mask, tiling, tilings
from .training import smoothed, training_curve

__all__ = [
    "AMOUNT",
    "ASSETS",
    "BLUE",
    "GREEN",
    "GREY",
    "HELD",
    "INK",
    "MARKS",
    "ORANGE",
    "PALE",
    "PICTURE_COLOURS",
    "PURPLE",
    "Picture",
    "ROLES",
    "SIGNED",
    "SKY",
    "TARGETS",
    "VERMILION",
    "amount",
    "as_array",
    "attention_map",
    "attention_mask",
    "bars",
    "beside",
    "canvas",
    "canvas_choice",
    "confusion_matrix",
    "curves",
    "design_costs",
    "embedding_map",
    "feature_order",
    "gallery",
    "held",
    "image_tag",
    "layer_cost",
    "matrix",
    "patch_grid",
    "patch_sequence",
    "picture",
    "picture_mask",
    "placed",
    "png",
    "position_similarity",
    "show",
    "show_source",
    "similarity",
    "splitting",
    "style",
    "targets",
    "tiling",
    "tilings",
    "smoothed",
    "training_curve",
    "token_row",
]
