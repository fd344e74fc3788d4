"""Lesson 11's widgets: what is asked and shown while answers come, what is named with each stroke, and the still that is left."""

import base64
import io
import re

import pytest
import tiny_eyes
import torch
from PIL import Image

from minimllm import HANDS, THINGS, LanguageModel, chat, prepare_pictures, render_things, widgets
from minimllm.data.pictures import as_picture
from minimllm.widgets import drawing as drawing_module
from minimllm.widgets.things import DRAWINGS, drawings

TOKENIZER = tiny_eyes.tokenizer()


def explorer(**options) -> widgets.ThingExplorer:
    return widgets.thing_explorer(tiny_eyes.designs(), TOKENIZER, **{"max_new_tokens": 7, **options})


def sheet(**options) -> widgets.Drawing:
    return widgets.draw_yourself(tiny_eyes.designs(), TOKENIZER, tiny_eyes.encoder(), **{"max_new_tokens": 7, **options})


def picture_in(tag: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", tag)[1]))).convert("RGB")


def data(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


# ---- both ----


@pytest.mark.parametrize("make", [explorer, sheet])
def test_answers_are_those_of_chat_and_grow_beside_each_other(make):
    widget = make()
    seen = {name: [] for name in widget.panels}
    for name, panel in widget.panels.items():
        panel.observe(lambda change, name=name: seen[name].append(change["new"]), "value")
    said = widget.ask()
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]}]
    expected = {name: chat(model, TOKENIZER, messages, [widget.picture()], 7) for name, model in widget.models.items()}
    assert said == expected and any(len(text.split()) > 3 for text in said.values())
    for name, text in said.items():
        growing = [len(re.search(r"</b>(.*?)</div>", value, re.DOTALL)[1].replace(" ▌", "")) for value in seen[name]]
        assert growing == sorted(growing) and len(set(growing)) >= len(text.split())
        assert "▌" in "".join(seen[name]) and "▌" not in widget.panels[name].value
    assert not any(control.disabled for control in (widget.menu, widget.field, widget.button))


def test_an_empty_answer_is_one(monkeypatch):
    from minimllm.widgets import answers

    monkeypatch.setattr(answers, "chat", lambda *arguments: "")
    widget = explorer()
    assert "no word" not in widget.panels["unified"].value
    widget.ask()
    assert (
        all("<em>no word</em>" in panel.value for panel in widget.panels.values()) and "no word" in widget._repr_mimebundle_()["text/html"]
    )
    widget.thing.value = "cat"
    assert widget.outdated


def test_what_a_model_writes_is_shown_and_not_obeyed():
    widget = explorer()
    widget.answers["unified"] = "<b> it"
    widget._show()
    assert "&lt;b&gt; it" in widget.panels["unified"].value


@pytest.mark.parametrize("make", [explorer, sheet])
def test_the_field_goes_before_the_menu_and_a_change_outdates_the_answers(make):
    widget = make(requests=["What is this?", "Where is this?"])
    assert widget.request == "What is this?" and not widget.outdated
    widget.menu.value = "Where is this?"
    assert not widget.outdated, "there is no answer yet"
    widget.ask()
    widget.field.value = " Where is it owl "
    assert widget.request == "Where is it owl" and widget.outdated
    assert "opacity:0.4" in widget.panels["unified"].value and "ask again" in widget.trouble.value
    widget.button.click()
    assert not widget.outdated and "opacity" not in widget.panels["unified"].value and not widget.trouble.value
    widget.field.value = ""
    assert widget.request == "Where is this?" and widget.outdated


def test_an_interrupted_answer_stays_and_what_is_refused_is_told(monkeypatch):
    from minimllm.widgets import answers

    def stopped(model, tokenizer, messages, images, most, on_text):
        on_text("it is")
        raise KeyboardInterrupt

    widget = explorer()
    monkeypatch.setattr(answers, "chat", stopped)
    assert widget.ask() == {"unified": "it is", "cross-attention": ""} and widget.error == "stopped"
    assert "stopped" in widget.trouble.value and not widget.button.disabled
    monkeypatch.undo()
    widget.field.value = f"this {tiny_eyes.IMAGE}"
    widget.ask()
    assert tiny_eyes.IMAGE in widget.error and "&lt;file_sep&gt;" in widget.trouble.value


@pytest.mark.parametrize("make", [explorer, sheet])
def test_still_for_readers_without_a_kernel(make):
    widget = make()
    bundle = widget._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle and bundle["text/plain"].endswith("“What is this?” not asked yet")
    said = widget.ask()
    bundle = widget._repr_mimebundle_()
    alts = re.findall(r'<img alt="([^"]*)"', bundle["text/html"])
    assert alts == [widget.told()] and len(alts[0]) > 30
    assert all(text in bundle["text/html"] for text in said.values()) and "What is this?" in bundle["text/html"]
    assert bundle["text/plain"].startswith(widget.told()) and said["unified"] in bundle["text/plain"] and "0x" not in bundle["text/plain"]
    still = picture_in(bundle["text/html"])
    assert still.tobytes() == widget.picture().resize(still.size, Image.Resampling.NEAREST).tobytes()


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: widgets.thing_explorer({}, TOKENIZER), "expected models by name"),
        (
            lambda: widgets.thing_explorer({"text": LanguageModel(tiny_eyes.designs()["unified"].config.language)}, TOKENIZER),
            "sees no pict",
        ),
        (lambda: explorer(thing="dragon"), "unknown thing 'dragon'; choose one of cat, dog"),
        (lambda: explorer(hand="left"), "unknown hand 'left'; choose one of first, pen, paper"),
        (lambda: explorer(requests=[]), "at least one"),
        (lambda: sheet(requests="What is this?"), "expected a list of requests"),
        (lambda: sheet(things=["cat", "dog"]), "the encoder has 56 logits, and 2 names"),
    ],
)
def test_what_does_not_go(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_tokenizer_without_template_is_refused():
    bare = tiny_eyes.tokenizer()
    bare.chat_template = None
    with pytest.raises(ValueError, match="chat template"):
        widgets.thing_explorer(tiny_eyes.designs(), bare)


# ---- things ----


@pytest.mark.parametrize("thing, hand", [("owl", "first"), ("ice cream", "pen"), (THINGS[-1], "paper"), (THINGS[0], "first")])
def test_the_picture_is_a_drawing_of_the_thing_by_the_hand(thing, hand):
    shown = drawings(thing, hand, 0)
    assert shown.names == [thing] * DRAWINGS and shown.hand == hand and shown.split == "test"
    assert len(set(shown.key.tolist())) == DRAWINGS
    widget = explorer(thing=thing, hand=hand)
    widget.drawing.value = 3
    expected = as_picture(render_things(shown[2])[0])
    assert widget.picture().tobytes() == expected.tobytes()
    assert f"Drawing 3 of “{thing}” by " in widget.told()
    tag = picture_in(widget.shown.value)
    assert tag.size == (256, 256) and tag.tobytes() == expected.resize((256, 256), Image.Resampling.NEAREST).tobytes()


def test_every_menu_changes_the_picture_and_its_words():
    widget = explorer()
    assert [hand for _, hand in widget.hand.options] == list(HANDS) and list(widget.thing.options) == list(THINGS)
    widget.ask()
    seen = {(widget.shown.value, widget.told())}
    for control, value in ((widget.thing, "whale"), (widget.hand, "pen"), (widget.drawing, 6), (widget.hand, "paper")):
        widget.outdated = False
        control.value = value
        seen.add((widget.shown.value, widget.told()))
        assert widget.outdated
    assert len({shown for shown, _ in seen}) == len({told for _, told in seen}) == 5


# ---- drawing ----


def test_what_is_drawn_is_named_by_the_encoder_with_each_change():
    widget = sheet()
    before = widget.names
    picture = Image.new("RGB", (320, 320), "white")
    picture.paste("red", (20, 200, 300, 230))
    widget.ask()
    widget.canvas.picture = data(picture)  # as the page does when a stroke ends
    assert widget.outdated and widget.names != before
    with torch.no_grad():
        logits = widget.encoder(prepare_pictures(widget.encoder, picture))[0]
    expected = logits.softmax(dim=0).sort(descending=True)
    assert [THINGS.index(name) for name, _ in widget.names] == expected.indices[:5].tolist()
    assert [share for _, share in widget.names] == pytest.approx(expected.values[:5].tolist(), abs=1e-5)
    assert all(name in widget.guesses.value and name in widget.told() for name, _ in widget.names)
    assert widget.picture().tobytes() == picture.tobytes()
    assert widget.ask() == {
        name: chat(
            model, TOKENIZER, [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]}], [picture], 7
        )
        for name, model in widget.models.items()
    }


def test_what_the_encoder_sees_is_shown_in_its_own_pixels():
    widget = sheet(drawing=Image.new("RGB", (64, 32), "black"))
    assert "16 × 16 pixels" in widget.seen.value
    seen = picture_in(widget.seen.value)
    assert seen.size == (16, 16) and seen.getpixel((8, 8)) == (0, 0, 0) and seen.getpixel((8, 0)) == (255, 255, 255)


def test_an_empty_canvas_is_not_named():
    for picture in ("", data(Image.new("RGB", (320, 320), "white"))):
        widget = sheet()
        widget.canvas.picture = picture
        assert widget.names == [] and widget.told() == "An empty canvas." and "Draw something" in widget.guesses.value


@pytest.mark.parametrize("size, inside, outside", [((60, 30), (160, 160), (160, 20)), ((6, 500), (160, 10), (100, 160))])
def test_a_picture_of_ones_own_lies_on_the_square_whole(size, inside, outside):
    canvas = widgets.Canvas()
    canvas.lay(Image.new("RGBA", size, (0, 0, 255, 255)))
    image = canvas.image()
    assert image.size == (320, 320) and image.getpixel(inside) == (0, 0, 255) and image.getpixel(outside) == (255, 255, 255)


def test_transparent_is_white():
    canvas = widgets.Canvas()
    canvas.picture = data(Image.new("RGBA", (320, 320), (0, 0, 0, 0)))
    assert canvas.image().getpixel((5, 5)) == (255, 255, 255)


def test_the_first_drawing_is_a_house_of_some_colours():
    picture = drawing_module.stored_drawing()
    colours = {colour for count, colour in picture.getcolors(10_000) if count > 500}
    assert {(255, 255, 255), (214, 39, 40), (17, 17, 17), (139, 90, 43)} <= colours
    assert sheet().picture().tobytes() == picture.tobytes()
    assert "Canvas(side=320)" == repr(widgets.Canvas()), "no address of this process"
