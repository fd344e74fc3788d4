"""Predictions: the answer comes with the guess or with the next cell, speaks to it, and is folded where no kernel runs."""

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from minimllm import figures
from minimllm.lessons.execution import execute, normalise
from minimllm.widgets import predict


@pytest.fixture
def shell(monkeypatch):
    """An IPython whose displayed objects are kept, as the cells of a kernel have it."""
    settings = Config()
    settings.HistoryManager.enabled = False
    ip = InteractiveShell.instance(config=settings)
    ip.shown = []
    monkeypatch.setattr("minimllm.widgets.predicting.display", ip.shown.append)
    yield ip
    InteractiveShell.clear_instance()


def answered(prediction, shown, remarks=None, **right):
    with prediction.answer(right.pop("right", None), remarks, **right):
        figures.show(figures.matrix([[1.0, 2.0], [3.0, 4.0], [5.0, 7.0]]), alt="six numbers")
        print("the <measure> is 7")
    return shown[-1]


def test_the_answer_waits_for_the_guess_and_speaks_to_it(shell):
    guess = predict("same", "reordered", "different")
    answer = answered(guess, shell.shown, {"same": "Look again."}, right="reordered")
    assert "when you have guessed" in answer.children[0].value and "six numbers" not in answer.children[0].value
    guess.buttons[""]["same"].click()
    told = answer.children[0].value
    assert "You guessed same. It is: reordered. Look again." in told
    assert 'alt="six numbers"' in told and "the &lt;measure&gt; is 7" in told and answer.children[1].layout.display == "none"
    guess.buttons[""]["reordered"].click()  # one may think again
    assert "You guessed reordered. Right." in answer.children[0].value and "Look again" not in answer.children[0].value


def test_a_guess_made_before_the_answer_is_known_is_kept(shell):
    guess = predict("same", "different")
    guess.buttons[""]["different"].click()
    assert "comes when you run on" in guess.children[-1].value
    assert "You guessed different. Right." in answered(guess, shell.shown, right="different").children[0].value


def test_without_a_guess_the_next_cell_opens_the_answer_once(shell):
    guess = predict("same", "different")
    answer = answered(guess, shell.shown, right="same")
    shell.events.trigger("pre_run_cell", None)
    assert "<b>Same.</b>" in answer.children[0].value and "six numbers" in answer.children[0].value
    again = answered(guess, shell.shown, right="different")  # the cell is run again: the old answer is gone, the new one waits
    assert answer.comm is None and "when you have guessed" in again.children[0].value
    again.children[1].click()
    assert "<b>Different.</b>" in again.children[0].value


def test_numbers_are_typed_and_several_things_are_guessed_together(shell):
    guess = predict(better=["unified", "cross-attention"], text_left=(0, 100))
    answer = answered(guess, shell.shown, better="cross-attention", text_left=31)
    guess.buttons["better"]["unified"].click()
    assert "when you have guessed" in answer.children[0].value, "a row is still open"
    guess.fields["text_left"].value = 45
    guess.buttons["text_left"][""].click()
    assert "Better: you guessed unified. It is: cross-attention." in answer.children[0].value
    assert "Text left: you guessed 45. It is 31, off by 14." in answer.children[0].value
    guess.fields["text_left"].value = 31
    guess.buttons["text_left"][""].click()
    assert "Text left: you guessed 31. It is 31: right." in answer.children[0].value


def test_readers_without_a_kernel_find_it_folded_and_the_guess_made_by_nobody(shell):
    guess = predict("same", "different")
    static = guess._repr_mimebundle_()
    assert static["text/plain"] == "Predict. Your guess: same · different" and "same · different" in static["text/html"]
    answer = answered(guess, shell.shown, right="same")
    before = answer._repr_mimebundle_()
    guess.buttons[""]["different"].click()
    after = answer._repr_mimebundle_()
    assert (
        before["text/html"] == after["text/html"] and before["text/plain"] == after["text/plain"] == "The answer. Same.\nthe <measure> is 7"
    )
    assert (
        before["text/html"].startswith("<details><summary>The answer</summary><p><b>Same.</b></p><img")
        and "open" not in before["text/html"][:9]
    )


def test_what_cannot_be_guessed_is_refused(shell):
    for wrong in (lambda: predict(), lambda: predict("one"), lambda: predict("a", "b", c=(0, 1)), lambda: predict(c=["a"])):
        with pytest.raises(ValueError, match="guess"):
            wrong()
    guess = predict("same", "different")
    with pytest.raises(ValueError, match="'equal'.*same.*different"), guess.answer("equal"):
        pass
    with pytest.raises(ValueError, match="rows to be guessed"), guess.answer(other="same"):
        pass
    with pytest.raises(ZeroDivisionError), guess.answer("same"):
        print(1 / 0)


def test_a_program_that_runs_all_stores_the_folded_answer(tmp_path):
    cells = ["from minimllm.widgets import predict\nguess = predict('less', 'more')\nguess"]
    cells += ["with guess.answer('more' if 3 > 2 else 'less'):\n    print('3 of 4')", "print(guess._answer.opened, guess.guesses)"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    execute(notebook, tmp_path, 120)
    normalise(notebook)
    asked, told, after = (cell.outputs[0] for cell in notebook.cells)
    assert asked.data["text/html"].startswith("Your guess: less · more") and len(asked.data) == len(told.data) == 2
    assert told.data["text/plain"] == "The answer. More.\n3 of 4" and told.data["text/html"].startswith("<details><summary>The answer")
    assert after.text == "True {}\n"
