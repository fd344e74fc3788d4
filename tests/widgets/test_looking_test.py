"""Lesson 12's looking test: what is shown in a picture's place, what is asked, and one's own picture."""

import html
import io
from datetime import datetime

import numpy as np
import pytest
import tiny_eyes
from PIL import Image

from minimllm import LanguageModel, chat, widgets
from minimllm.widgets.controls import CONTROLS, shuffled_patches

TOKENIZER = tiny_eyes.tokenizer()
MODEL = tiny_eyes.designs()["unified"]
RAMP = Image.fromarray(np.arange(16 * 24 * 3, dtype=np.uint16).reshape(16, 24, 3).astype(np.uint8))
PICTURES = {"ramp": RAMP, "red": Image.new("RGB", (20, 12), "red"), "grey": Image.new("L", (9, 9), 60)}


def widget(**options) -> widgets.LookingTest:
    return widgets.looking_test(MODEL, TOKENIZER, PICTURES, max_new_tokens=6, **options)


def asked(*pictures: Image.Image) -> str:
    content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": "What is this?"}]
    return chat(MODEL, TOKENIZER, [{"role": "user", "content": content}], list(pictures) or None, 6)


def test_the_same_pieces_change_places():
    mixed = shuffled_patches(RAMP, 4, seed=1)
    assert mixed.size == RAMP.size and mixed.tobytes() != RAMP.tobytes()

    def pieces(picture: Image.Image) -> list[bytes]:
        return sorted(picture.crop((x, y, x + 6, y + 4)).tobytes() for x in range(0, 24, 6) for y in range(0, 16, 4))

    assert pieces(mixed) == pieces(RAMP) and shuffled_patches(RAMP, 4, seed=1).tobytes() == mixed.tobytes()
    assert shuffled_patches(RAMP, 5).size == (20, 15), "what does not divide is cut off"
    assert shuffled_patches(Image.new("L", (3, 2), 7), 8).getpixel((2, 1)) == (7, 7, 7)


def test_each_answer_is_that_to_what_stands_in_the_picture_s_place():
    said = widget().ask()
    blank = Image.new("RGB", RAMP.size, (128, 128, 128))
    expected = dict(zip(CONTROLS, (asked(RAMP), asked(shuffled_patches(RAMP)), asked(blank), asked(PICTURES["red"]), asked()), strict=True))
    assert said == expected and len(set(said.values())) > 2


def test_the_other_picture_is_the_next_and_the_still_shows_the_shuffled_one():
    test = widget()
    test.choice.value = "grey"
    assert test.another() == "ramp" and test.shown_to(CONTROLS[3]) == [RAMP] and test.shown_to(CONTROLS[4]) == []
    test.ask()
    test.choice.value = "ramp"
    assert test.outdated and "“red” is the other picture" in test.shown.value
    still = test._repr_mimebundle_()["text/html"]
    assert test.image() in still and all(html.escape(name) in still for name in CONTROLS)


def uploaded(name: str, kind: str, content: bytes) -> tuple[dict]:
    return ({"name": name, "type": kind, "size": len(content), "content": content, "last_modified": datetime.now()},)


def test_a_picture_of_one_s_own_is_chosen_and_what_is_none_is_refused():
    test, buffer = widget(), io.BytesIO()
    RAMP.save(buffer, "PNG")
    test.upload.value = uploaded("red.png", "image/png", buffer.getvalue())
    assert test.choice.value == "red 2" and test.picture().tobytes() == RAMP.tobytes()
    test.upload.value = uploaded("notes.txt", "text/plain", b"no")
    assert "notes.txt is not a picture" in test.said.value and test.choice.value == "red 2"


def test_what_cannot_be_asked():
    with pytest.raises(ValueError, match="expected two pictures or more by name"):
        widgets.looking_test(MODEL, TOKENIZER, {"one": RAMP})
    with pytest.raises(ValueError, match="expected a list of requests"):
        widget(requests=[])
    with pytest.raises(ValueError, match="is a LanguageModel, which sees no pictures"):
        widgets.looking_test(LanguageModel(MODEL.config.language), TOKENIZER, PICTURES)
