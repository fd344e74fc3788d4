"""The course's figures behind sliders. ``explore`` makes a widget of any drawing function; the rest are the lessons' own widgets.

A widget's output also holds a still picture with its alternative text, for readers without a kernel. Moving a control redraws at once;
should drawing fail, the reader sees the error beside the picture, which is marked as out of date, and the kernel sees it too.
"""

from .asking import MASK_TEXTS, mask_explorer, question_explorer
from .chatting import Chat, chat
from .controls import LookingTest, looking_test
from .designs import design_explorer
from .drawing import Canvas, Drawing, draw_yourself
from .encoders import attention_explorer, patch_explorer
from .explorer import Explorer, explore
from .language import next_word_explorer, reading_explorer
from .looking import gate_explorer, looking_explorer
from .pairs import batch_composer, name_explorer, similarity_explorer
from .predicting import Answer, Prediction, predict
from .processes import process_explorer
from .sizes import size_explorer
from .splitting import split_explorer
from .things import ThingExplorer, thing_explorer
from .tiles import mask_laboratory, tile_explorer
from .together import together
from .training import LiveCurve
from .uploading import own_picture

__all__ = [
    "MASK_TEXTS",
    "Answer",
    "Canvas",
    "Chat",
    "Drawing",
    "Explorer",
    "LiveCurve",
    "LookingTest",
    "Prediction",
    "ThingExplorer",
    "attention_explorer",
    "batch_composer",
    "chat",
    "design_explorer",
    "draw_yourself",
    "explore",
    "gate_explorer",
    "looking_explorer",
    "looking_test",
    "mask_explorer",
    "mask_laboratory",
    "name_explorer",
    "next_word_explorer",
    "own_picture",
    "patch_explorer",
    "process_explorer",
    "predict",
    "question_explorer",
    "reading_explorer",
    "similarity_explorer",
    "size_explorer",
    "split_explorer",
    "thing_explorer",
    "tile_explorer",
    "together",
]
