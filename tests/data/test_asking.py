"""Questions about scenes: every answer found again from the ground truth by another way, and answers balanced."""

import re
from collections import Counter, defaultdict

import pytest
import torch
from support import unchecked

from minimllm import questions, scenes
from minimllm.data.asking import KINDS, in_pictures, sample_questions
from minimllm.data.composing import compose
from minimllm.data.words import COLOURS, SHAPES, WORDS, number, places
from minimllm.data.world import SPLITS, held_out_pairs, pair_names

WORLDS = [dict(objects=1), dict(), dict(objects=1, grid=1), dict(objects=(2, 8), grid=3), dict(objects=(5, 30), grid=(6, 8)),
          dict(objects=16, grid=8)]  # fmt: skip


def listed(batch, row):
    """A scene as plain dictionaries."""
    names = places(batch.grid)
    fields = zip(*(getattr(batch, f)[row].tolist() for f in ("size", "colour", "shape", "cell")), strict=True)
    return [
        dict(size=("small", "large")[z], colour=COLOURS[c], shape=SHAPES[s], place=names[cell], row=cell // batch.grid[1],
             column=cell % batch.grid[1]) for z, c, s, cell in fields if s >= 0
    ]  # fmt: skip


def meant(phrase, objects):
    """The one object that a phrase such as ``the red star`` or ``the object at the top left`` can mean."""
    words, _, place = phrase.partition(" at ")
    found = objects
    for word in words.split()[1:]:
        if word != "object":
            found = [o for o in found if word in (o["colour"], o["shape"])]
    if place:
        found = [o for o in found if o["place"] == place.removeprefix("the ")]
    assert phrase.startswith("the ") and len(found) == 1, f"{phrase!r} means {len(found)} objects"
    return found[0]


def answered(question, objects):
    """The answer, from the question's words and the list of objects."""
    the = r"(the [a-z ]+?)"
    if match := re.fullmatch(rf"what (colour|size) is {the} \?", question):
        assert match[1] not in ("colour",) or not set(match[2].split()) & set(COLOURS), "the question gives its answer away"
        return meant(match[2], objects)[match[1]]
    if match := re.fullmatch(rf"what shape is {the} \?", question):
        return meant(match[1], objects)["shape"]
    if question == "how many objects are there ?":
        return number(len(objects))
    if match := re.fullmatch(r"how many (\w+) objects are there \?", question):
        return number(sum(o["colour"] == match[1] for o in objects))
    if match := re.fullmatch(rf"where is {the} \?", question):
        return meant(match[1], objects)["place"]
    if match := re.fullmatch(r"is there (an?) (\w+) (\w+) \?", question):
        assert (match[1] == "an") == (match[2] == "orange")
        return ("no", "yes")[any(o["colour"] == match[2] and o["shape"] == match[3] for o in objects)]
    if match := re.fullmatch(rf"is {the} the same (colour|size) as {the} \?", question):
        one, other = meant(match[1], objects), meant(match[3], objects)
        assert one is not other
        return ("no", "yes")[one[match[2]] == other[match[2]]]
    match = re.fullmatch(rf"is {the} (left of|right of|above|below) {the} \?", question)
    assert match, f"not a question of the grammar: {question!r}"
    one, other = meant(match[1], objects), meant(match[3], objects)
    axis = "column" if " of" in match[2] else "row"
    assert one[axis] != other[axis], "neither yes nor no would be right"
    return ("no", "yes")[(one[axis] < other[axis]) == (match[2] in ("left of", "above"))]


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("split", SPLITS)
def test_every_answer_is_right_and_every_question_means_one_thing(world, split):
    if split == "held_out" and world.get("objects") == (5, 30):
        world = dict(world, objects=(5, 16))
    batch = scenes(150, 20, split, **world)
    asked = [a + b for a, b in zip(questions(batch), sample_questions(batch, 6, seed=3).texts(), strict=True)]
    held_out = {pair_names[pair] for pair in held_out_pairs}
    for row, triples in enumerate(asked):
        objects = listed(batch, row)
        assert len(triples) == 6 + 9 - (batch.grid == (1, 1)) - 2 * (len(objects) == 1)
        for question, answer, kind in triples:
            assert answer == answered(question, objects), (question, objects)
            assert set(f"{question} {answer}".split()) <= set(WORDS) and kind in KINDS
            if kind == "exists":
                assert (" ".join(question.split()[3:5]) in held_out) == (split == "held_out"), "the pair alone gives nothing away"
            elif split != "held_out":
                assert not any(pair in question for pair in held_out)


def test_kinds_are_what_they_are_called():
    patterns = {kind: [re.sub("star|heart", "S", re.sub("red", "C", form)) for form in forms.split(" | ")] for kind, forms in KINDS.items()}
    batch = scenes(300, 21, "train")
    seen = defaultdict(set)
    for triples in questions(batch):
        assert [kind for *_, kind in triples] == [kind for kind in KINDS if kind in {k for *_, k in triples}], "in the order of KINDS"
        for question, _, kind in triples:
            form = re.sub("|".join(SHAPES), "S", re.sub("|".join(COLOURS), "C", question)).replace("is there an ", "is there a ")
            form = re.sub("(top|bottom) (left|right)", "top left", re.sub("right of|above|below", "left of", form))
            seen[kind].add(form)
    assert {kind: sorted(forms) for kind, forms in seen.items()} == {kind: sorted(forms) for kind, forms in patterns.items()}


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_answers_are_balanced(split):
    batch = scenes(12_000, 22, split)
    answers, by_pair = defaultdict(Counter), defaultdict(Counter)
    for triples in questions(batch):
        for question, answer, kind in triples:
            form = kind + (" of " + question.split(" the same ")[1].split()[0] if kind == "comparison" else "")
            answers[form][answer] += 1
            if kind == "exists":
                by_pair[question][answer] += 1
            if kind == "relation":
                answers[re.search("left of|right of|above|below", question)[0]][answer] += 1
    for form in ("exists", "relation", "comparison of colour", "comparison of size", "left of", "right of", "above", "below"):
        total = answers[form].total()
        assert total > 2000 and abs(answers[form]["yes"] / total - 0.5) < 2 / total**0.5, form
    expected = {"colour": 1 / 8, "shape": 1 / 8, "size": 1 / 2, "count": 1 / 4, "where": 1 / 4}
    for kind, share in expected.items():
        assert len(answers[kind]) == round(1 / share)
        assert all(abs(n / answers[kind].total() - share) < 0.02 for n in answers[kind].values())
    assert answers["count_colour"].most_common(1)[0][1] / answers["count_colour"].total() < 0.46
    assert len(by_pair) == (16 if split == "held_out" else 48)
    for question, counts in by_pair.items():
        assert abs(counts["yes"] / counts.total() - 0.5) < 2.5 / counts.total() ** 0.5, question


def test_drawing_questions_for_training():
    batch = scenes(400, 23, "train")
    drawn = sample_questions(batch, 8, seed=1, weights={"where": 3.0, "relation": 1.0})
    counts = torch.bincount(drawn.kind.flatten(), minlength=9)
    where, relation = list(KINDS).index("where"), list(KINDS).index("relation")
    several = batch.count > 1
    assert counts[where] + counts[relation] == 3200
    assert (drawn.kind[several] == where).double().mean() == pytest.approx(0.75, abs=0.03) and (drawn.kind[~several] == where).all()
    assert drawn.question.shape[:2] == drawn.answer.shape[:2] == (400, 8)
    assert ((drawn.question < 0).int().diff(dim=2) >= 0).all() and (drawn.question[..., 0] >= 0).all(), "padding at the end alone"
    assert " ".join(WORDS[w] for w in drawn.question[0, 0].tolist() if w >= 0) == drawn.texts()[0][0][0]

    again = sample_questions(batch, 8, seed=1, weights={"where": 3.0, "relation": 1.0})
    assert drawn.texts() == again.texts() != sample_questions(batch, 8, seed=2, weights={"where": 3.0, "relation": 1.0}).texts()
    alone = sample_questions(batch[[77]], 8, seed=1, weights={"where": 3.0, "relation": 1.0})
    assert alone.texts()[0] == drawn.texts()[77], "a scene's questions do not depend on its batch"
    assert sample_questions(batch, 3).texts()[5] == sample_questions(batch, 8).texts()[5][:3], "nor on how many are drawn"
    assert questions(batch) != questions(batch, seed=1)
    assert sample_questions(batch, 0).texts() == [[]] * 400 and sample_questions(batch[:0], 4).texts() == [] == questions(batch[:0])


def test_questions_about_one_of_several_pictures():
    batch = scenes(12, 24, "train")
    asked = sample_questions(batch, 4, weights={"colour": 1.0, "where": 1.0})
    together = in_pictures(asked, 3).texts()
    assert len(together) == 4 and all(len(sample) == 12 for sample in together)
    for sample in range(4):
        for picture, ordinal in enumerate(("first", "second", "third")):
            for slot in range(4):
                question, answer, kind = asked.texts()[3 * sample + picture][slot]
                expected = (f"in the {ordinal} picture , {question}", answer, kind)
                assert together[sample][4 * picture + slot] == expected
    for pictures, message in ((5, "1 to 4"), (0, "1 to 4")):
        with pytest.raises(ValueError, match=message):
            in_pictures(asked, pictures)
    with pytest.raises(ValueError, match="got 2 and 3 scenes"):
        in_pictures(sample_questions(batch[:3], 1), 2)


def test_scenes_made_by_hand_can_be_asked_about():
    batch = compose([[("large", "red", "star", "top left"), ("small", "red", "ring", "bottom right")]])
    for question, answer, _ in questions(batch)[0]:
        assert answer == answered(question, listed(batch, 0))


def test_impossible_questions():
    batch = scenes(3, 0, "train", objects=1)
    with pytest.raises(ValueError, match="unknown kind of question 'color'; choose from colour"):
        sample_questions(batch, 2, weights={"color": 1.0})
    for weights in ({"colour": -1.0}, {"colour": 0.0}, {}, {"colour": float("nan")}, {"colour": float("inf")}):
        with pytest.raises(ValueError, match="weights must be"):
            sample_questions(batch, 2, weights=weights)
    with pytest.raises(ValueError, match="scene 0, of 1 objects on a .2, 2. grid, admits no question of kind relation"):
        sample_questions(batch, 2, weights={"relation": 1.0})
    with pytest.raises(ValueError, match="per_scene"):
        sample_questions(batch, -1)
    with unchecked(), pytest.raises(TypeError, match="seed"):
        questions(batch, seed=0.5)
