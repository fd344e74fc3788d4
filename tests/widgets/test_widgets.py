"""Widgets: a still with alternative text in the same output, errors in plain sight, every stop of every control drawn."""

import inspect
import re
import typing

import ipywidgets
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from support import unchecked

from minimllm import (
    CLIP,
    CLIPConfig,
    CrossAttentionConfig,
    CrossAttentionMLLM,
    LanguageModel,
    LanguageModelConfig,
    Tokenizer,
    UnifiedConfig,
    UnifiedMLLM,
    answer,
    figures,
    render,
    widgets,
)
from minimllm.data.composing import compose
from minimllm.data.words import WORDS
from minimllm.inference.answering import prompts
from minimllm.inspection.recording import Recorder
from minimllm.widgets import Explorer, explore
from minimllm.widgets.looking import with_gates

PICTURES = {"noise": np.random.default_rng(0).random((112, 112, 3)), "ramp": np.linspace(0, 1, 112 * 112).reshape(112, 112)}
SCENES = {"a star": render(compose([[("large", "red", "star", "top left")]]))[0], "nothing": torch.zeros(3, 32, 32)}
WIDGETS = {
    "patch_explorer": lambda: widgets.patch_explorer(PICTURES, patch_sizes=(8, 14, 16, 28, 56)),
    "attention_explorer": lambda: widgets.attention_explorer(
        list(PICTURES.values()), torch.randn(2, 2, 3, 17, 17, generator=torch.Generator().manual_seed(0)).softmax(-1), list(PICTURES)
    ),
    "similarity_explorer": lambda: widgets.similarity_explorer(
        {"one": 0.9 * torch.eye(2), "other": torch.full((2, 2), 0.5)}, list(PICTURES.values()), list(PICTURES), scales=(1, 15)
    ),
    "batch_composer": lambda: widgets.batch_composer(("large red star", "small blue ring"), ("size", "shape")),
    "reading_explorer": lambda: widgets.reading_explorer(
        ["a", "red", "star"], {name: torch.rand(2, 2, 3, 3, generator=torch.Generator().manual_seed(len(name))) for name in ("one", "both")}
    ),
    "next_word_explorer": lambda: widgets.next_word_explorer(*untrained_writer(), "a red", temperatures=(0.5, 1.0)),
    "mask_explorer": lambda: widgets.mask_explorer(widgets.MASK_TEXTS[:1]),
    "question_explorer": lambda: widgets.question_explorer(
        *untrained_reader(), ("large red star",), ("large red star", "nothing", "nothing", "nothing")
    ),
    "gate_explorer": lambda: widgets.gate_explorer(*untrained_looker(), SCENES, "where is the ring ?", (0.0, 1.0)),
    "looking_explorer": lambda: widgets.looking_explorer(*untrained_looker(), SCENES, "where is the ring ?"),
    "tile_explorer": lambda: widgets.tile_explorer({"ramp": Image.new("RGB", (40, 30), "red"), "grey": Image.new("L", (9, 9))}, (60, 561)),
    "split_explorer": lambda: widgets.split_explorer(
        {"ramp": Image.new("RGB", (40, 30)), "grey": Image.new("L", (9, 9))}, (60, 561), (64, 2048)
    ),
    "mask_laboratory": lambda: widgets.mask_laboratory(("[2] [1] ?", "t [4] t")),
    "design_explorer": lambda: widgets.design_explorer({"small": LanguageModelConfig.tiny(60)}, (4, 6404), (16, 64), (1, 4)),
    "process_explorer": lambda: widgets.process_explorer({"small": 1000, "half learns": (2000, 1000)}, (1, 2, 3)),
    "size_explorer": lambda: widgets.size_explorer(("ViT-B/16", "LLaVA-1.5 7B", "Llama 3.2 11B Vision"), (0, 200_000), (0, 2)),
    "together": lambda: widgets.together(
        {"echo": lambda picture, question: f"{picture.sum():.3f}", "strict": lambda picture, question: refuse(question)}, "red ?", 6
    ),
    "name_explorer": lambda: widgets.name_explorer(*untrained_clip(), {f"grey {n}": torch.full((3, 32, 32), n / 9) for n in range(5)}),
}


def refuse(question: str) -> str:
    raise ValueError(f"no word of {question}")


def untrained_clip() -> tuple[CLIP, Tokenizer]:
    tokenizer = Tokenizer.from_texts(["a red star", "a blue heart", "no"])
    return CLIP(CLIPConfig.tiny(tokenizer.vocab_size, tokenizer.eos_token_id), seed=0).eval(), tokenizer


def untrained_writer() -> tuple[LanguageModel, Tokenizer]:
    tokenizer = Tokenizer.from_words(WORDS)
    return LanguageModel(LanguageModelConfig.tiny(tokenizer.vocab_size), seed=0).eval(), tokenizer


def untrained_reader() -> tuple[UnifiedMLLM, Tokenizer]:
    tokenizer = Tokenizer.from_words(WORDS)
    return UnifiedMLLM(UnifiedConfig.course(tokenizer.vocab_size), seed=0).eval(), tokenizer


def untrained_looker(gate: float = 1.0) -> tuple[CrossAttentionMLLM, Tokenizer]:
    tokenizer = Tokenizer.from_words(WORDS)
    model = CrossAttentionMLLM(CrossAttentionConfig.course(tokenizer.vocab_size, tokenizer.image_token_id), seed=0).eval()
    for block in model.cross_blocks:
        torch.nn.init.constant_(block.attention_gate, gate)
    return model, tokenizer


def bar(height: int = 1, colour: str = "red") -> Figure:
    if height == 3:
        raise RuntimeError("three is <too> high")
    figure, axes = figures.canvas(2, 2)
    axes[0, 0].bar([0], [height], color=colour)
    axes[0, 0].set_ylim(0, 5)
    return figure


def simple() -> Explorer:
    return explore(bar, lambda height, colour: f"a {colour} bar of height {height}", height=(1, 5), colour=["red", "blue"])


def alt(tag: str) -> str:
    return re.search(r'<img alt="([^"]*)"', tag)[1]


def test_every_widget_of_the_package_is_tested_here():
    made = {
        name
        for name, value in vars(widgets).items()
        if inspect.isfunction(value)
        and value.__module__.startswith(widgets.__name__)
        and typing.get_type_hints(value).get("return") is Explorer
    }
    assert made - {"explore", "own_picture"} == set(WIDGETS)  # one makes any widget, the other adds a button to one


@pytest.mark.parametrize("name", WIDGETS)
def test_every_widget_draws_every_combination_and_says_what_it_shows(name):
    widget = WIDGETS[name]()
    start = widget.values
    alts, pictures, combinations = set(), set(), 0
    for _ in widget.sweep():
        assert not widget.error
        alts.add(alt(widget.picture))
        pictures.add(widget.picture)
        combinations += 1
    assert combinations > 4 and len(alts) == len(pictures) == combinations  # each picture is its own, and so is its text
    assert widget.values == start
    assert all(control.description for control in widget.controls.values())


@pytest.mark.parametrize("name", WIDGETS)
def test_every_widget_leaves_a_still_with_alternative_text(name):
    bundle = WIDGETS[name]()._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert len(alt(bundle["text/html"])) > 30 and "data:image/png;base64," in bundle["text/html"]
    assert bundle["text/plain"].startswith("Explorer at ") and "0x" not in bundle["text/plain"]


def test_moving_a_control_changes_the_picture_and_its_text():
    widget = simple()
    before = widget.picture
    widget.controls["height"].value = 2
    assert widget.picture != before and alt(widget.picture) == "a red bar of height 2"
    assert widget.picture in widget.children[-1].value
    widget.controls["height"].value = 1
    assert widget.picture == before


def test_an_error_reaches_the_kernel_and_the_reader_and_marks_the_picture():
    widget = simple()
    good = widget.picture
    with pytest.raises(RuntimeError, match="high"):
        widget.controls["height"].value = 3
    assert "RuntimeError: three is &lt;too&gt; high" in widget.error and "out of date" in widget.error
    assert widget.picture == good and "opacity" in widget.children[-1].value
    assert "out of date" in widget._repr_mimebundle_()["text/html"]
    widget.controls["height"].value = 4
    assert not widget.error and "opacity" not in widget.children[-1].value and alt(widget.picture) == "a red bar of height 4"


def test_a_smaller_picture_keeps_the_room_of_the_tallest_one():
    """Else all that is below jumps up, under the pointer of the one who has just typed something that is refused."""
    widget = explore(lambda inches: figures.placed(4, inches, (0.5, 0.2, 3, 0.5))[0], "a frame", inches=[2, 3, 1])
    rooms = []
    for inches in (2, 3, 1):
        widget.set(inches=inches)
        rooms.append([int(size) for size in re.search(r"aspect-ratio:(\d+)/(\d+)", widget.children[-1].value).groups()])
    drawn = [int(size) for size in re.search(r'width="(\d+)" height="(\d+)"', widget.picture).groups()]
    assert rooms[1] == rooms[2] and rooms[0][1] < rooms[1][1] and drawn[1] < rooms[1][1] and drawn[0] == rooms[2][0]
    assert "aspect-ratio" not in widget._repr_mimebundle_()["text/html"], "a still has its own size"


@pytest.mark.parametrize("name", ["mask_laboratory", "question_explorer", "looking_explorer", "gate_explorer", "name_explorer"])
def test_a_field_that_answers_on_enter_says_so_and_no_other_control_does(name):
    widget = WIDGETS[name]()
    waiting = [control for control in widget.controls.values() if isinstance(control, ipywidgets.Text) and not control.continuous_update]
    rows = [child for child in widget.children if isinstance(child, ipywidgets.HBox)]
    assert waiting and [row.children[0] for row in rows] == waiting
    assert all("Enter answers" in row.children[1].value and "Enter" in row.children[0].placeholder for row in rows)


def test_a_sweep_meets_the_error_that_a_single_drawing_does_not():
    with pytest.raises(RuntimeError, match="high"):
        list(simple().sweep())


def test_an_error_in_the_first_drawing_is_raised():
    with pytest.raises(RuntimeError, match="high"):
        explore(bar, "a bar", height=(3, 5))


@pytest.mark.parametrize("text", ["", " ", None, lambda **_: ""])
def test_alternative_text_is_required(text):
    with unchecked(), pytest.raises(ValueError, match="alternative text"):
        explore(bar, text, height=(1, 2))


def test_shorthands_make_the_right_controls():
    def draw(**values) -> Figure:
        return figures.canvas(1, 1)[0]

    given = {"a": (1, 5), "b": (0.0, 1.0, 0.5), "c": [8, 16], "d": ["x", "y"], "e": {"one": 1}, "f": True, "some_text": "hello"}
    widget = explore(draw, "empty", **given, g=ipywidgets.IntSlider(2, 0, 9))
    kinds = [type(control).__name__ for control in widget.controls.values()]
    assert kinds == ["IntSlider", "FloatSlider", "SelectionSlider", "Dropdown", "Dropdown", "Checkbox", "Text", "IntSlider"]
    assert widget.values == {"a": 1, "b": 0.0, "c": 8, "d": "x", "e": 1, "f": True, "some_text": "hello", "g": 2}
    assert widget.controls["some_text"].description == "Some text"
    assert all(getattr(control, "continuous_update", True) for control in widget.controls.values())
    with pytest.raises(ValueError, match="1200"):
        list(widget.sweep(most=100))


@pytest.mark.parametrize("given", [3, (1, 2, 3, 4), [], {}, object()])
def test_what_makes_no_control_is_refused(given):
    with pytest.raises(ValueError, match="height"):
        explore(bar, "a bar", height=given)
    with pytest.raises(ValueError, match="control"):
        explore(bar, "a bar")


def test_lesson_widgets_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="112"):
        widgets.patch_explorer(PICTURES, patch_sizes=(30,))
    with pytest.raises(ValueError, match=r"\(1, 2, 3\)"):
        widgets.attention_explorer(list(PICTURES.values()), np.zeros((1, 2, 3)))


def test_cells_of_the_similarity_matrix_tell_their_values_under_the_pointer():
    widget = WIDGETS["similarity_explorer"]()
    hints = re.findall(r'<span title="([^"]*)" style="position:absolute;left:([\d.]+)%;top:([\d.]+)%;width:([\d.]+)%', widget.picture)
    assert len(hints) == 8  # two matrices of 2 x 2
    assert "cosine 0.90" in hints[0][0] and "noise" in hints[0][0]
    assert all(0 <= float(left) and float(left) + float(width) <= 100 and 0 <= float(top) <= 100 for _, left, top, width in hints)
    widget.set(model="other")
    assert "cosine 0.50" in widget.picture and "cosine 0.90" not in widget.picture


def test_batch_composer_counts_what_is_no_negative():
    widget = widgets.batch_composer()
    chosen = ("large red star", "small red star", "large red heart", "small blue ring")
    widget.set(detail="plain", **{f"picture_{place + 1}": name for place, name in enumerate(chosen)})
    assert "4 are pairs, 2 true as well and so no negatives, 4 hard negatives, 6 other negatives" in alt(widget.picture)
    widget.set(detail="size")
    assert "4 are pairs, 0 true as well and so no negatives, 4 hard negatives, 8 other negatives" in alt(widget.picture)


def test_name_explorer_tells_what_is_wrong_with_names_and_raises_nothing():
    widget = WIDGETS["name_explorer"]()
    assert "red star" in alt(widget.picture) and "%" in alt(widget.picture)
    for names, template, told in (
        ("red star, purple stork", "a {}", "does not know the word &#x27;purple&#x27;"),
        (" , ", "a {}", "Type 1 to 12 different names"),
        ("red star", "a star", "needs one {}"),
        ("red " * 80, "a {}", "at most 77 are allowed"),
    ):
        widget.set(names=names, template=template)
        assert told in alt(widget.picture) and "%" not in alt(widget.picture) and widget.error == ""
    widget.set(names="red  star,red star,blue heart", template="a {}")
    shares = [float(share) for share in re.findall(r"([\d.]+)%", alt(widget.picture))]
    assert len(shares) == 2 and sum(shares) == pytest.approx(100, abs=0.2), "equal names count once"


def test_mask_explorer_shows_what_each_mask_allows():
    widget = widgets.mask_explorer()
    told = {}
    for mask in ("causal", "image prefix", "packed", "packed, image prefix"):
        widget.set(mask=mask, pictures=1, questions=2, token="the last word")
        told[mask] = alt(widget.picture)
    assert "what colour is the star" in told["causal"] and "what colour is the star" not in told["packed"].split("sees")[1]
    assert "where is the ring ? bottom right" in told["packed"]
    widget.set(mask="causal", token="the first patch")
    assert "sees 2 tokens: &lt;start&gt; A1." in alt(widget.picture)
    widget.set(mask="packed, image prefix")
    assert "sees 5 tokens: &lt;start&gt; A1 A2 A3 A4." in alt(widget.picture)
    hints = re.findall(r'<span title="([^"]*)"', widget.picture)
    assert hints[1] == "A1 sees: &lt;start&gt; A1 A2 A3 A4"


def test_question_explorer_asks_the_model_and_tells_what_it_cannot_read():
    model, tokenizer = untrained_reader()
    widget = widgets.question_explorer(model, tokenizer, question="where is the ring ?")
    scene = compose([[("large", "red", "star", "top left"), ("small", "blue", "ring", "bottom right")]])
    written = answer(model, tokenizer, render(scene), ["where is the ring ?"])
    assert f"the answer “{written[0]}”" in alt(widget.picture) and "large red star at the top left" in alt(widget.picture)
    for question, told in (("where is the dog ?", "does not know the word &#x27;dog&#x27;"), (" ", "Type a question")):
        widget.set(question=question)
        assert told in alt(widget.picture) and widget.error == ""
    widget.set(question="where is the ring ?", top_left="small blue ring")
    assert "alike in shape and colour" in alt(widget.picture) and widget.error == ""


def test_next_word_explorer_asks_at_every_key_and_tells_what_is_wrong_with_a_text():
    widget = WIDGETS["next_word_explorer"]()
    assert widget.controls["text"].continuous_update
    total = sum(float(share) for share in re.findall(r"([\d.]+)%", alt(widget.picture)))
    assert 10 < total < 100 and "<|image|>" not in alt(widget.picture), "twelve of all words, and no picture is ever written"
    for text, told in (("a re", "does not know the word &#x27;re&#x27;"), ("red " * 80, "at most 77 are allowed")):
        widget.set(text=text)
        assert told in alt(widget.picture) and "%" not in alt(widget.picture) and widget.error == ""
    widget.set(text="", top_k=3, top_p=1.0)
    shares = [float(share) for share in re.findall(r"([\d.]+)%", alt(widget.picture))]
    assert len(shares) == 3 and sum(shares) == pytest.approx(100, abs=0.2), "an empty text has a first word as well"


def test_reading_explorer_tells_what_goes_to_later_words_and_refuses_what_does_not_fit():
    words, past = ["a", "red", "star"], torch.ones(3, 3).tril()
    weights = {"causal": (past / past.sum(1, keepdim=True))[None, None], "none": torch.full((1, 1, 3, 3), 1 / 3)}
    widget = widgets.reading_explorer(words, weights)
    assert "0% of it goes to words further on" in alt(widget.picture) and "red looks at: red 50%, a 50%" in widget.picture
    widget.set(mask="none")
    assert "33% of it goes to words further on" in alt(widget.picture)
    with pytest.raises(ValueError, match="4 words"):
        widgets.reading_explorer([*words, "?"], weights)


def test_a_menu_with_the_value_none_is_refused():
    with pytest.raises(ValueError, match="'top_k' has the value None"):
        widgets.explore(lambda top_k: None, "nothing", top_k={"all": None, "1": 1})


def test_gate_explorer_goes_from_the_decoder_alone_to_the_trained_model():
    model, tokenizer = untrained_looker()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    widget = widgets.gate_explorer(model, tokenizer, SCENES, "where is the ring ?")
    (ids, _), star = prompts(tokenizer, ["where is the ring ?"], 1), model.picture_inputs(SCENES["a star"][None])
    for opening, logits in ((1.0, model(ids, **star).detach()), (0.0, model.language_model(ids).detach())):
        widget.set(opening=opening, picture="a star", gates="all")
        logits[..., model.image_token_id] = float("-inf")
        share, word = logits[0, -1].softmax(-1).max(-1)
        assert f"Likeliest first word here: {tokenizer.words[word]} {share:.1%}" in alt(widget.picture)
    widget.set(picture="nothing")
    shut = re.search("shut, (.*?%)", alt(widget.picture))[1]
    widget.set(picture="a star")
    assert shut in alt(widget.picture), "with the gates shut the picture changes nothing"
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())
    half = with_gates(model, {0: 0.5})
    assert half.cross_blocks[0].attention_gate.tanh().item() == pytest.approx(0.5 * torch.tensor(1.0).tanh().item())
    assert half.cross_blocks[1].attention_gate.item() == 1.0
    for question, told in (("where is the dog ?", "does not know the word &#x27;dog&#x27;"), (" ", "Type a question")):
        widget.set(question=question)
        assert told in alt(widget.picture) and widget.error == ""


def test_looking_explorer_tells_where_each_word_looks():
    model, tokenizer = untrained_looker()
    widget = widgets.looking_explorer(model, tokenizer, SCENES, "where is the ring ?")
    ids, mask = prompts(tokenizer, ["where is the ring ?"], 1)
    with torch.no_grad(), Recorder(model.cross_blocks) as recorder:
        model(ids, **model.picture_inputs(SCENES["a star"][None]), mask=mask)
    widget.set(picture="a star", layer="before layer 3", head="head 1")
    weights = recorder.attention["1.attention"][0, 1, 2:]
    for word, row in zip("where is the ring ?".split(), weights, strict=True):
        place = ("top left", "top right", "bottom left", "bottom right")[int(row.argmax())]
        assert f"{word} → {place} {row.max():.0%}" in alt(widget.picture)
    assert len(re.findall(r'<span title="', widget.picture)) >= 5
    for question, told in (("where is the dog ?", "does not know the word &#x27;dog&#x27;"), (" ", "Type a question")):
        widget.set(question=question)
        assert told in alt(widget.picture) and widget.error == ""


def test_tile_explorer_tells_grid_scale_number_and_mask():
    widget = widgets.tile_explorer({"white": Image.new("RGB", (64, 48), "white")})
    for width, height, told in (
        (640, 420, "1 row by 2 columns is chosen, number 2, which allows a scale of 1.33; resized to 420 by 640"),
        (60, 3000, "4 rows by 1 column is chosen, number 8, which allows a scale of 0.75; resized to 2240 by 44"),
        (280, 150, "1 row by 1 column is chosen, number 1, which allows a scale of 2.00; resized to 300 by 560"),
    ):
        widget.set(width=width, height=height)
        assert told in alt(widget.picture) and widget.error == ""
    assert alt(widget.picture).endswith("tile mask [1, 0, 0, 0].")


def test_split_explorer_tells_sizes_grid_and_tokens():
    widget = widgets.split_explorer({"white": Image.new("RGB", (64, 48), "white")})
    for values, told in (
        (
            dict(width=1920, height=1080),
            "longer side first 1152 × 2048; then stretched to 1536 × 2048; sub-pictures 3 × 4 and the whole: 13",
        ),
        (
            dict(width=200, height=3000),
            "sub-pictures 4 × 1 and the whole: 5; tokens in the encoder 5,120; tokens in the text 320 of pictures, 15",
        ),
        (dict(width=3000, longest_edge=512), "stretched to 512 × 512; sub-pictures the whole alone: 1; tokens in the encoder 1,024"),
    ):
        widget.set(**values)
        assert told in alt(widget.picture) and widget.error == ""


def test_mask_laboratory_hides_the_mask_until_there_is_a_guess_and_judges_it():
    widget = widgets.mask_laboratory()
    assert "still hidden" in alt(widget.picture) and "The rows" not in alt(widget.picture)
    widget.set(text="[4] [2] why ? [1] <pad>", guess="C")
    assert "“&lt;|image|&gt; C” sees C. You guessed right." in alt(widget.picture)
    rows = "&lt;|image|&gt; A: A; &lt;|image|&gt; B: A and B; why: A and B; ?: A and B; &lt;|image|&gt; C: C; &lt;pad&gt;: C."
    assert alt(widget.picture).endswith(rows)
    widget.controls["rule"].value = "all pictures so far"
    assert widget.values["guess"] == "not guessed yet" and "still hidden" in alt(widget.picture), "a new riddle hides the mask"
    widget.set(guess="C")
    assert "sees A, B and C. You guessed: C." in alt(widget.picture)
    widget.set(rule="the last picture alone", guess="C")
    assert "“&lt;|image|&gt; C” sees C. You guessed right." in alt(widget.picture) and "why: B;" in alt(widget.picture)


def test_mask_laboratory_tells_what_it_cannot_read():
    widget = widgets.mask_laboratory()
    for text, told in (("[5] a", "[5] is no picture"), ("[1] " * 4, "Room is for 3 pictures"), ("a " * 30, "there are 0 and 30")):
        widget.set(text=text)
        assert told in alt(widget.picture) and widget.error == ""
    widget.set(text=" ", guess="nothing")
    assert "“&lt;start&gt;” sees nothing. You guessed right." in alt(widget.picture)
    assert ", 1 token, 0 pictures, " in alt(widget.picture)


def test_size_explorer_counts_weights_and_cache():
    widget = widgets.size_explorer(("Llama 3.2 11B Vision", "LLaVA-1.5 7B", "Llama 3.1 8B", "ViT-B/16"))
    widget.set(words=1000, pictures=1)
    text = alt(widget.picture)
    weights, own, cross = 2 * 10_670_220_835, 2 * 32 * 8 * 1001 * 128 * 2, 2 * 8 * 8 * 4 * 1601 * 128 * 2
    assert f"In all {(weights + own + cross) / 1e9:.3g} GB" in text and f"cache {(own + cross) / 1e9:.3g} GB" in text
    assert "cross-attention blocks 3.49 GB" in text and "1,000 tokens of text and 1 picture." in text
    widget.set(model="LLaVA-1.5 7B", words=128_000, pictures=0)
    assert "128,000 tokens of text (it reads 4,096)" in alt(widget.picture) and "cache 2.15 GB" in alt(widget.picture)
    widget.set(model="Llama 3.1 8B", pictures=1)
    assert "1 picture (which it cannot see)" in alt(widget.picture)
    widget.set(model="ViT-B/16", numbers=4)
    assert "image encoder 0.343 GB" in alt(widget.picture) and "cache" not in alt(widget.picture)
    with pytest.raises(ValueError, match="there is no model"):
        widgets.size_explorer(("GPT-2",))


def test_together_every_model_says_its_own_and_a_refusal_stands_in_its_place():
    asked = []

    def one(picture, question):
        asked.append((tuple(picture.shape), question))
        return f"a {question}"

    widget = widgets.together({"one": one, "other": lambda picture, question: refuse(question)}, "red ?", pictures=3)
    assert alt(widget.picture).startswith("Picture 1 of the world") and "one: a red ?; other: no word of red ?" in alt(widget.picture)
    widget.set(question="blue ?", picture=3)
    assert "one: a blue ?" in alt(widget.picture) and asked == [((3, 32, 32), "red ?"), ((3, 32, 32), "blue ?")]
    widget.set(question=" ")
    assert "Type a question" in alt(widget.picture) and len(asked) == 2
    for names in (["Llama 3.2 Vision, small (09)", "unified"], ["a", "b"]):
        drawn = widgets.together(dict.fromkeys(names, one), "red ?", pictures=1)._draw(question="red ?", picture=1)
        renderer = FigureCanvasAgg(drawn).get_renderer()
        picture, written = drawn.axes
        boxes = [text.get_window_extent(renderer) for text in (*written.texts, picture.title)]
        assert all(not a.overlaps(b) for number, a in enumerate(boxes) for b in boxes[:number]), "no words lie on others"
        assert boxes[-1].y1 <= drawn.bbox.y1, "the title is whole"
    for wrong in (lambda: widgets.together({}, "?"), lambda: widgets.together({"one": one}, "?", pictures=0)):
        with pytest.raises(ValueError, match="at least one picture"):
            wrong()
