"""Solved exercises are counted, from session to session and across lessons."""

import pytest

from minimllm.exercises import all_exercises, check, lesson_modules, solved
from minimllm.exercises.counting import record, remembered


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIMLLM_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def wrong(*arguments):
    raise NotImplementedError


def test_what_is_solved_is_counted_once_and_what_is_not_is_not(place, capsys):
    exercises = all_exercises()
    first, second = [name for name in exercises][3], [name for name in exercises][-1]
    check(first, wrong)
    assert "of the course" not in capsys.readouterr().out and not record().exists()
    for _ in range(2):
        check(first, exercises[first].reference)
        assert f"You have solved 1 of {len(exercises)} exercises of the course." in capsys.readouterr().out
    check(second, exercises[second].reference)
    assert f"solved 2 of {len(exercises)}" in capsys.readouterr().out and remembered() == {first, second}


def test_the_list_goes_lesson_by_lesson(place, capsys):
    exercises = all_exercises()
    name = "patchify"
    solved()
    before = capsys.readouterr().out
    check(name, exercises[name].reference)
    capsys.readouterr()
    solved()
    after = capsys.readouterr().out.splitlines()
    assert before.startswith(f"You have solved 0 of {len(exercises)}") and len(after) == 1 + len(lesson_modules())
    assert after[1].startswith("  lesson 01: 1 of 3  (patchify ✓") and all(": 0 of" in line for line in after[2:])
    assert all(each in "\n".join(after) for each in exercises)


@pytest.mark.parametrize("text", ["", "{", '{"patchify": 1}', "[3]"])
def test_a_damaged_file_counts_as_none_and_is_written_anew(place, capsys, text):
    place.mkdir()
    record().write_text(text)
    assert remembered() == set()
    check("patchify", all_exercises()["patchify"].reference)
    assert remembered() == {"patchify"}


def test_where_nothing_can_be_written_the_check_still_answers(place, capsys):
    place.write_text("a file where the folder should be")
    check("patchify", all_exercises()["patchify"].reference)
    out = capsys.readouterr().out
    assert out.startswith("patchify: right") and "cannot be counted" in out
