"""Lesson 11's widgets in a real Chromium: a stroke with the mouse, the tools of the canvas, an uploaded picture, and answers that grow."""

import os
from pathlib import Path

import nbformat
import pytest
from browsing import BROKEN, CELLS, CHROMIUM, FINISHED, READY, RUN_ALL, TOKEN
from PIL import Image

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found (put it on the path, or name it in CHROMIUM)"),
]

SETUP = f"""import sys
sys.path.insert(0, {str(Path(__file__).resolve().parents[1])!r})
import tiny_eyes
from minimllm import widgets
models, tokenizer, encoder = tiny_eyes.designs(), tiny_eyes.tokenizer(), tiny_eyes.encoder()"""
CELL_OF = {
    "drawing": "drawing = widgets.draw_yourself(models, tokenizer, encoder, max_new_tokens=40)\ndrawing",
    "things": "explorer = widgets.thing_explorer(models, tokenizer, max_new_tokens=40)\nexplorer",
}
GUESSES = "() => document.querySelector('.minimllm-guesses')?.textContent ?? ''"
CHANGED = f"before => {{ const now = ({GUESSES})(); return now && now !== before; }}"
PIXEL = """([x, y]) => { const canvas = document.querySelector('.jp-OutputArea-output canvas');
  return [...canvas.getContext('2d').getImageData(x, y, 1, 1).data]; }"""
ANSWERS = "() => [...document.querySelectorAll('.jp-OutputArea-output .minimllm-answer')].map(each => each.textContent)"
SAID = (
    f"() => ({ANSWERS})().length === 2 && ({ANSWERS})().every(each => !each.includes('▌')) && ({ANSWERS})().some(each => each.length > 30)"
)
# A small model is done sooner than a page is asked again: what passed in between is noted by the page itself.
WATCH = f"""() => {{ window.lengthsWhileWriting = new Set();
  const note = () => ({ANSWERS})().filter(each => each.includes('▌')).forEach(each => window.lengthsWhileWriting.add(each.length));
  const whole = document.querySelector('.jp-OutputArea-output');
  new MutationObserver(note).observe(whole.parentElement, {{ subtree: true, childList: true, characterData: true }}); }}"""


def opened(lab, page, cell: str) -> list[str]:
    """A notebook with one of the widgets, run; gives a list that errors of the page will be put into."""
    address, root = lab
    failures = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    cells = [nbformat.v4.new_code_cell(source) for source in (SETUP, cell)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), root / "notebooks" / "eyes.ipynb")
    page.goto(f"{address}/lab/tree/notebooks/eyes.ipynb?token={TOKEN}&reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_function(READY)
    assert page.evaluate(RUN_ALL)
    page.wait_for_function(FINISHED, timeout=240_000)
    assert [output for one in page.evaluate(CELLS) for output in one["outputs"] if output["output_type"] == "error"] == []
    return failures


def keep(page, name: str) -> None:
    if folder := os.environ.get("SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def test_a_stroke_is_drawn_and_named_and_the_models_answer_about_it(lab, page, tmp_path):
    failures = opened(lab, page, CELL_OF["drawing"])
    canvas = page.locator(".jp-OutputArea-output canvas")
    canvas.wait_for()
    canvas.scroll_into_view_if_needed()
    page.wait_for_function(f"() => ({PIXEL})([160, 100])[0] === 214")  # the house's roof, which the kernel laid there
    guesses = page.evaluate(GUESSES)
    assert "The encoder takes it for" in guesses

    page.locator(".jp-OutputArea-output button[aria-label='blue']").click()
    thick = page.locator(".jp-OutputArea-output button[aria-label='thick']")
    thick.focus()
    page.keyboard.press("Enter")  # which JupyterLab does not take
    assert thick.get_attribute("aria-pressed") == "true"
    box = canvas.bounding_box()
    scale = box["width"] / 320
    page.mouse.move(box["x"] + 20 * scale, box["y"] + 300 * scale)
    page.mouse.down()
    page.mouse.move(box["x"] + 300 * scale, box["y"] + 300 * scale, steps=12)
    assert page.evaluate(PIXEL, [150, 300])[:3] == [31, 111, 214], "drawn while the button is down"
    assert page.evaluate(GUESSES) == guesses, "and named when it is let go"
    page.mouse.up()
    page.wait_for_function(CHANGED, arg=guesses)
    with_stroke = page.evaluate(GUESSES)
    keep(page, "drawing_stroke")

    page.locator(".jp-OutputArea-output button", has_text="Ask").click()
    page.wait_for_function(SAID, timeout=120_000)
    keep(page, "drawing_answers")
    answered = page.evaluate(ANSWERS)
    page.locator(".jp-OutputArea-output button", has_text="Undo").click()
    page.wait_for_function(CHANGED, arg=with_stroke)
    assert page.evaluate(GUESSES) == guesses and page.evaluate(PIXEL, [150, 300])[:3] == [255, 255, 255]
    page.get_by_text("ask again").wait_for()
    page.locator(".jp-OutputArea-output button", has_text="Ask").click()
    page.wait_for_function(f"before => ({SAID})() && JSON.stringify(({ANSWERS})()) !== before", arg=_json(answered), timeout=120_000)

    page.locator(".jp-OutputArea-output button", has_text="Clear").click()
    page.get_by_text("Draw something").wait_for()
    Image.new("RGB", (80, 40), (0, 200, 0)).save(tmp_path / "mine.png")
    page.locator(".jp-OutputArea-output input[type=file]").set_input_files(tmp_path / "mine.png")
    page.wait_for_function("() => !document.querySelector('.minimllm-guesses').textContent.includes('Draw something')")
    assert page.evaluate(PIXEL, [160, 160])[:3] == [0, 200, 0] and page.evaluate(PIXEL, [160, 40])[:3] == [255, 255, 255]
    (tmp_path / "no.png").write_text("no picture")
    page.locator(".jp-OutputArea-output input[type=file]").set_input_files(tmp_path / "no.png")
    page.get_by_text("no.png is no picture that this browser can read").wait_for()
    assert page.evaluate(BROKEN) == [] and failures == []


def test_a_thing_is_picked_and_both_designs_answer(lab, page):
    failures = opened(lab, page, CELL_OF["things"])
    picture = page.locator(".jp-OutputArea-output .minimllm-picture img")
    picture.wait_for()
    assert picture.get_attribute("alt") == "Drawing 1 of “owl” by the hand of the training."
    page.locator(".jp-OutputArea-output select").first.select_option("whale")
    page.locator("img[alt='Drawing 1 of “whale” by the hand of the training.']").wait_for()
    page.evaluate(WATCH)
    page.locator(".jp-OutputArea-output button", has_text="Ask").click()
    page.wait_for_function(SAID, timeout=120_000)
    assert page.evaluate("() => window.lengthsWhileWriting.size") > 3, "the answers grow while they are written"
    keep(page, "things")
    assert page.evaluate(BROKEN) == [] and failures == []


def _json(texts: list[str]) -> str:
    import json

    return json.dumps(texts, ensure_ascii=False, separators=(",", ":"))
