"""A real JupyterLab in a real Chromium: a saved notebook keeps its pictures, an answer waits for the guess, lesson 10's chat answers.

That every lesson runs there, and that each of its controls moves its picture, is tests/lessons/test_every_lesson.py's part.
"""

import nbformat
from browsing import BROKEN, FINISHED, RUN_ALL, TOKEN, in_browser, open_notebook, screenshot

from minimllm.lessons.copies import ready_to_open

pytestmark = in_browser


def test_a_saved_notebook_shows_its_widgets_picture_when_it_is_opened_again(lab, page):
    """Run, save, shut the kernel down, open again: in place of the widget stands its picture, and not that a model was not found."""
    source = """from minimllm import figures, widgets
widgets.explore(lambda size: figures.matrix([[size, 2], [3, 4]]), lambda size: f"a matrix that begins with {size}", size=[5, 6, 7])"""
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    address, root = lab
    file = root / "notebooks" / "mine.ipynb"
    nbformat.write(
        ready_to_open(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)], metadata={"kernelspec": kernel})), file
    )
    open_notebook(page, address, "mine.ipynb")
    page.wait_for_function("() => jupyterapp.shell.currentWidget.model.getMetadata('language_info')?.version")
    assert not page.evaluate("() => jupyterapp.shell.currentWidget.model.dirty"), "opening a learner's copy is no change"
    assert page.evaluate(RUN_ALL)
    page.wait_for_selector(".jp-OutputArea-output .noUi-handle")
    page.evaluate("() => jupyterapp.commands.execute('docmanager:save').then(() => true)")
    assert page.locator(".jp-OutputArea-output .noUi-handle").count() == 1, "saving leaves the page alone"
    assert "widget-view+json" not in file.read_text() and "a matrix that begins with 5" in file.read_text()
    page.evaluate("() => jupyterapp.commands.execute('kernelmenu:shutdown').then(() => true)")
    page.goto(f"{address}/lab/tree/notebooks/mine.ipynb?token={TOKEN}&reset")
    picture = page.locator('.jp-OutputArea-output img[alt="a matrix that begins with 5"]')
    picture.wait_for()
    assert "Run this cell to move the controls" in page.locator(".jp-OutputArea-output").inner_text()
    assert page.get_by_text("model not found").count() == 0 and page.evaluate(BROKEN) == []


KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
GUESS = """from minimllm import figures, widgets
guess = widgets.predict("same", "reordered", "different")
guess"""
ANSWER = """right = ["same", "reordered", "different"][1]
with guess.answer(right, {"same": "Only sets are."}):
    figures.show(figures.matrix([[1, 2, 3.5]]), alt="three numbers in a row")"""
NEXT = "() => jupyterapp.commands.execute('notebook:run-cell-and-select-next').then(() => true)"


def test_an_answer_waits_for_the_guess_and_speaks_to_it(lab, page):
    """By the keyboard; by Run All without a guess; and when the saved notebook is opened without a kernel, where it is folded."""
    address, root = lab
    cells = [nbformat.v4.new_code_cell(source) for source in (GUESS, ANSWER, "'and on'")]
    notebook = ready_to_open(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL}))
    nbformat.write(notebook, root / "notebooks" / "guess.ipynb")
    picture = page.locator('.jp-OutputArea-output img[alt="three numbers in a row"]')

    open_notebook(page, address, "guess.ipynb")
    page.evaluate("() => { jupyterapp.shell.currentWidget.content.activeCellIndex = 0 }")
    page.evaluate(NEXT)
    page.evaluate(NEXT)
    page.get_by_text("The answer is here when you have guessed").wait_for()
    assert picture.count() == 0
    choice = page.get_by_role("button", name="same", exact=True)
    choice.focus()
    page.keyboard.press("Enter")
    picture.wait_for()
    assert page.get_by_text("You guessed same. It is: reordered. Only sets are.").count() == 1
    screenshot(page, "predict")

    page.evaluate(RUN_ALL)  # makes the row of buttons anew: nobody has guessed
    page.get_by_text("Reordered.", exact=True).wait_for()
    assert picture.is_visible() and page.get_by_text("You guessed").count() == 0

    page.evaluate("() => jupyterapp.commands.execute('docmanager:save').then(() => true)")
    page.evaluate("() => jupyterapp.commands.execute('kernelmenu:shutdown').then(() => true)")
    page.goto(f"{address}/lab/tree/notebooks/guess.ipynb?token={TOKEN}&reset")
    folded = page.locator(".jp-OutputArea-output details")
    folded.wait_for()
    assert page.get_by_text("same · reordered · different").count() == 1
    assert folded.locator("summary").inner_text() == "The answer" and not picture.is_visible()
    folded.locator("summary").click()
    assert picture.is_visible() and page.evaluate(BROKEN) == []


CHAT = """import transformers
from minimllm import LanguageModel, released, widgets
folder = released("smollm2-135m-instruct")
chat = widgets.chat(LanguageModel.from_pretrained(folder), transformers.AutoTokenizer.from_pretrained(folder), max_new_tokens=30)
chat"""
SAID = "() => document.querySelector('.jp-OutputArea-output .minimllm-chat')?.textContent ?? ''"
LONGER = f"before => {{ const said = ({SAID})(); return said.length > before.length && said.includes('▌'); }}"
WRITTEN = f"words => {{ const said = ({SAID})(); return said.includes(words) && !said.includes('▌'); }}"


def test_chat_answers_as_it_writes_by_enter_and_by_the_button(lab, page):
    address, root = lab
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CHAT)], metadata={"kernelspec": kernel})
    nbformat.write(notebook, root / "notebooks" / "chat.ipynb")
    open_notebook(page, address, "chat.ipynb")
    assert page.evaluate(RUN_ALL)
    page.wait_for_function(FINISHED, timeout=180_000)
    field = page.locator(".jp-OutputArea-output .widget-text input[placeholder^='Enter']")
    button = page.locator(".jp-OutputArea-output button", has_text="Send")

    for words, send in (("What is the capital of France?", lambda: field.press("Enter")), ("Tell me about zebras.", button.click)):
        field.fill(words)
        send()
        seen = [""]
        while len(seen) < 4:  # the answer is longer each time while it is being written
            page.wait_for_function(LONGER, arg=seen[-1], timeout=120_000)
            seen.append(page.evaluate(SAID))
        page.wait_for_function(WRITTEN, arg=words, timeout=180_000)
        assert field.input_value() == ""
    said = page.evaluate(SAID)
    assert said.index("you: What is the capital of France?") < said.index("Paris") < said.index("you: Tell me about zebras.")
    screenshot(page, "chat")
