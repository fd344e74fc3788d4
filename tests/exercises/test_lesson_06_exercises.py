"""The three broken collators of lesson 06 are broken as the lesson says, each in its own way."""

import torch

from minimllm.exercises.lesson_06 import collate, collate_a, collate_b, collate_c, loss_falls_to_zero

END = 3
EXAMPLES = [([10, 11, 12], [20, END]), ([13, 14], [21, 22, END])]


def test_the_right_collator_scores_the_answers_and_their_ends_one_place_ahead():
    inputs, labels = collate(EXAMPLES, END)
    assert inputs.tolist() == [[10, 11, 12, 20], [13, 14, 21, 22]]
    assert labels.tolist() == [[-100, -100, 20, END], [-100, 21, 22, END]]


def test_one_collator_never_scores_the_end_one_gives_the_answer_away_one_scores_nothing():
    right_inputs, right = collate(EXAMPLES, END)
    inputs, labels = collate_a(EXAMPLES, END)
    assert torch.equal(inputs, right_inputs) and torch.equal(labels, right.masked_fill(right == END, -100))
    inputs, labels = collate_b(EXAMPLES, END)
    scored = labels != -100
    assert scored.any() and torch.equal(labels[scored], inputs[scored])
    inputs, labels = collate_c(EXAMPLES, END)
    assert (labels == -100).all()
    found = [loss_falls_to_zero(*made(EXAMPLES, END)) for made in (collate_a, collate_b, collate_c, collate)]
    assert found == [False, True, False, False]
