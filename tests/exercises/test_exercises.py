"""Every check accepts its reference and rejects each of its mistakes with that mistake's own hint; solutions in the lessons pass."""

import ast
import math
import re
from pathlib import Path

import nbformat
import pytest
import torch
from lesson_rules import checks, code_cells, parsed
from support import unchecked

from minimllm.exercises import Exercise, Wrong, all_exercises, check, judge, lesson_04
from minimllm.layers.attention import Attention, rotate
from minimllm.layers.rotary import rotary_angles, rotary_frequencies
from minimllm.models.llama_vision.tiles import arrangements

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
EXERCISES = all_exercises()
WRONG = [(name, wrong_name) for name, exercise in EXERCISES.items() for wrong_name in exercise.wrong_functions]


def numbers() -> list[tuple]:
    return [(torch.arange(6.0).reshape(3, 2) + 1,), (torch.arange(8.0).reshape(2, 4) - 3,)]


DOUBLING = Exercise(
    reference=lambda values: values * 2,
    cases=numbers,
    mistakes=dict(
        squared=Wrong(lambda values: values**2, _by_itself=lambda values: values * values).hint("That is squared."),
        tripled=Wrong(lambda right: right * 1.5, by_the_reference=lambda again, values: again(values=values * 1.5)).hint(
            "That is tripled."
        ),
        fifth_row=Wrong(lambda values: values[5]).hint("""Row 5
            of it."""),
    ),
    afterthought="Well done.",
    batched=(0,),
)


@pytest.mark.parametrize("name", EXERCISES)
def test_reference_passes_and_the_exercise_is_complete(name):
    exercise = EXERCISES[name]
    verdict = judge(exercise, exercise.reference)
    assert verdict.status == "solved" and exercise.afterthought in verdict.message
    assert len(exercise.mistakes) >= 3
    assert len({mistake.hint for mistake in exercise.mistakes.values()}) == len(exercise.mistakes)


@pytest.mark.parametrize("name, wrong_name", WRONG, ids=[f"{name}-{wrong_name}" for name, wrong_name in WRONG])
def test_each_wrong_solution_is_rejected_with_its_own_hint(name, wrong_name):
    wrong, hint = EXERCISES[name].wrong_functions[wrong_name]
    verdict = judge(EXERCISES[name], wrong)
    assert (verdict.status, verdict.message) == ("mistake", f"not yet. {hint}")


@pytest.mark.parametrize("name", EXERCISES)
def test_no_two_wrong_solutions_share_a_name(name):
    assert len(EXERCISES[name].wrong_functions) == sum(len(mistake.functions) for mistake in EXERCISES[name].mistakes.values())


def test_a_row_of_the_table_may_ask_for_arguments_the_reference_and_what_it_gives():
    wrong = DOUBLING.wrong_functions
    assert list(wrong) == ["squared", "squared_by_itself", "tripled", "by_the_reference", "fifth_row"]
    for name in ("tripled", "by_the_reference"):
        function, hint = wrong[name]
        assert torch.equal(function(torch.ones(3, 2)), torch.full((3, 2), 3.0)) and hint == "That is tripled."
    assert wrong["fifth_row"][1] == "Row 5 of it."


@pytest.mark.parametrize("name", EXERCISES)
def test_an_unsolved_exercise_says_so_and_raises_nothing(name, capsys):
    def stub(*arguments):
        raise NotImplementedError

    for function in (stub, lambda *arguments: None, lambda *arguments: ...):
        check(name, function)
        assert capsys.readouterr().out.startswith(f"{name}: not solved yet")


def test_the_same_attempt_gets_the_same_words(capsys):
    for _ in range(2):
        check("patchify", lambda images, patch_size: images.flatten(1))
    one, two = capsys.readouterr().out.splitlines()
    assert one == two


def test_an_unknown_exercise_is_an_error():
    with pytest.raises(ValueError, match="patchfy.*patchify"):
        check("patchfy", len)


def in_place(values):
    values *= 2
    return values.clone()


def first_row_only(values):
    return (values[:1] * 2).expand_as(values)


def state(values, calls=[0]):  # noqa: B006
    calls[0] += 1
    return values * 2 if calls[0] <= 2 else values * 3


def breaks(values):
    total = values.sum()
    return values.view(7, total)


@pytest.mark.parametrize(
    "function, status, words",
    [
        (lambda values: values * 2, "solved", "right, on all 2 cases. Well done."),
        (lambda values: values**2, "mistake", "That is squared."),
        (lambda values: values.T * 2, "wrong", r"shape is \(2, 3\), expected \(3, 2\).*transpose"),
        (lambda values: (values * 2).flatten(), "wrong", r"shape is \(6,\).*last reshape"),
        (lambda values: values.double() * 2, "wrong", "float64, expected float32"),
        (lambda values: values * float("nan"), "wrong", "100% of the numbers are NaN"),
        (lambda values: values * 6, "wrong", "3 times the right number"),
        (lambda values: values * 2 + 1, "wrong", "off by the same amount"),
        (lambda values: (values * 2).flip(1), "wrong", "in the wrong places"),
        (lambda values: None if len(values) == 2 else values * 2, "wrong", "nothing .is a return missing"),
        (lambda values: [values * 2], "wrong", "expected a tensor"),
        (in_place, "wrong", "changes its argument 1 in place"),
        (first_row_only, "wrong", "For each sample alone it is right"),
        (state, "wrong", "a second call"),
        (breaks, "wrong", "TypeError"),
        (lambda: 1, "wrong", "exactly the arguments of the stub"),
    ],
)
def test_symptoms_are_put_into_words(function, status, words):
    verdict = judge(DOUBLING, function)
    assert verdict.status == status
    assert re.search(words, verdict.message, re.DOTALL), verdict.message


def whole_scales(height, width, tile_size):
    """The right rule with // in place of /, which gives the same grids as a scale chosen wrongly: the hint has to name both."""
    found = {(rows, columns): min(rows * tile_size // height, columns * tile_size // width) for rows, columns in arrangements()}
    up = [scale for scale in found.values() if scale >= 1]
    best = min(up) if up else max(found.values())
    return min((grid for grid in found if found[grid] == best), key=math.prod)


def test_whole_scales_are_told_to_divide_otherwise():
    verdict = judge(EXERCISES["choose_grid"], whole_scales)
    assert verdict.status == "mistake" and "divide with /" in verdict.message


@pytest.mark.parametrize(
    "name, function, words",
    [
        ("visible_pictures", lambda ids, image_token_id: ids, r"Called with ids = \[\d, 9, \d\] and image_token_id = 9"),
        ("interleave", lambda output, states: states, r"states = 5 values \(each a tensor \(2, 3, 4\) of float32\): it returned 5 values"),
        (
            "kept_bytes",
            lambda *sizes: 1,
            r"Called with image = 16, text = 9, .* and size = 4: it returned a value of type int, expected 2 val",
        ),
        (
            "contrastive_loss",
            lambda *vectors: 1,
            r"texts of shape \(4, 6\) and log_scale = 1\.5: it returned a value of type int, expected a",
        ),
    ],
)
def test_arguments_are_told_with_their_values_where_these_are_short(name, function, words):
    message = judge(EXERCISES[name], function).message
    assert re.search(words, message) and len(message) < 400, message


@pytest.mark.parametrize("entries, words", [(3, r"table = \{0: 'entry', 1: .*\}: it"), (50, "table with 50 entries: it")])
def test_a_long_table_is_told_by_its_length(entries, words):
    exercise = Exercise(lambda table: len(table), lambda: [(dict.fromkeys(range(entries), "entry"),)], {}, "")
    assert re.search(words, judge(exercise, lambda table: 1).message)


def pair_of(first, second) -> Exercise:
    return Exercise(lambda values: (values * first, values * second), numbers, {}, "")


def test_of_several_results_only_the_wrong_ones_are_told():
    """A right tensor beside a wrong one has no first wrong number: looking for it was an error."""
    assert "): value 2: the shape is right" in judge(pair_of(2, 3), lambda values: (values * 2, values**2)).message
    assert re.search(r"numbers are not.*\d; value 2: .*\d\.$", judge(pair_of(2, 3), lambda values: (values**2, values**2)).message)
    message = judge(EXERCISES["reading_cost"], lambda *sizes: (EXERCISES["reading_cost"].reference(*sizes)[0], 1)).message
    assert "value 1" not in message and "value 2: it returned 1, expected" in message


def test_half_of_the_pairs_is_noticed_where_their_number_is_odd():
    """(tokens² halved, in whole numbers or not, is not the same for 25 tokens.)"""

    def halved(image, text, dim, kv_dim, mlp_dim, layers, cross_layers):
        def decoder(tokens):
            return layers * (tokens * dim * (2 * dim + 2 * kv_dim + 3 * mlp_dim) + dim * tokens**2)

        words = text + 1
        gated = words * (2 * dim * dim + 3 * dim * mlp_dim) + image * 2 * dim * kv_dim + 2 * dim * words * image
        return decoder(image + text), decoder(words) + cross_layers * gated

    assert "thrown away" in judge(EXERCISES["reading_cost"], halved).message


def test_errors_about_none_say_what_to_ask():
    exercise = Exercise(lambda values, last: values, lambda: [(torch.ones(2), None), (torch.ones(2), torch.ones(2))], {}, "")
    assert "needs a branch of its own" in judge(exercise, lambda values, last: values @ last).message
    assert "`is None` says" in judge(exercise, lambda values, last: values if last else values).message


def row_without_a_true(words, pictures, visible, norm, attention, gate):
    return words + gate.tanh() * attention(norm(words), pictures, visible[:, None])


def row_without_a_true_times_sees(words, pictures, visible, norm, attention, gate):
    return words + gate.tanh() * (attention(norm(words), pictures, visible[:, None]) * visible.any(dim=-1, keepdim=True))


@pytest.mark.parametrize("function", [row_without_a_true, row_without_a_true_times_sees])
def test_a_gated_block_that_leaves_a_row_without_a_true_is_rejected(function):
    """torch's fused kernel gives zeros for such a row on a CPU, and the mistake that the exercise is about was judged right."""
    verdict = judge(EXERCISES["gated_block"], function)
    assert verdict.status == "mistake" and "A row of the mask has no True: its softmax divides nothing by nothing" in verdict.message


def test_the_attention_of_the_gated_block_is_the_packages_with_its_softmax_written_out():
    for words, pictures, visible, _, attention, _ in EXERCISES["gated_block"].cases():
        fused = Attention(8, 2, bias=False, normalise_heads=1e-5)
        fused.load_state_dict(attention.state_dict())
        whole = (visible | ~visible.any(dim=-1, keepdim=True))[:, None]
        torch.testing.assert_close(attention(words, pictures, whole), fused(words, pictures, whole))
        blind = ~visible.any(dim=-1)
        assert blind.any() and attention(words, pictures, visible[:, None])[blind].isnan().all()


def test_a_module_of_several_lines_is_told_by_its_type():
    message = judge(EXERCISES["gated_block"], lambda words, *others: words * 7).message
    assert "attention = WrittenOutAttention(...) and gate of shape (1,): " in message and "\n" not in message


def test_a_call_instead_of_the_function_is_noticed():
    with unchecked():
        assert "expected a function, got int" in judge(DOUBLING, 3).message


def test_an_error_names_the_line_of_the_learners_own_code():
    assert "in line 3 of it: return values.view(7, total)" in judge(DOUBLING, breaks).message


def test_arguments_given_to_one_function_do_not_reach_the_next():
    shared = [(torch.ones(2),)]
    exercise = Exercise(lambda values: values * 2, lambda: shared, {"tripled": Wrong(lambda values: values * 3).hint("Tripled.")}, "")
    judge(exercise, in_place)
    assert torch.equal(shared[0][0], torch.ones(2))


def solutions(path: Path) -> list[tuple[str, str, str]]:
    """(exercise, code, the imports of the lesson) of every folded solution, found after its check."""
    notebook = nbformat.read(path, as_version=4)
    statements = [node for cell in code_cells(notebook) for node in parsed(cell.source).body]
    imports = [ast.unparse(node) for node in statements if isinstance(node, ast.Import | ast.ImportFrom)]
    found = []
    for index, name in checks(notebook):
        text = next((cell.source for cell in notebook.cells[index + 1 :] if "<summary>Solution" in cell.source), "")
        block = re.search(r"```python\n(.*?)```", text, re.DOTALL)
        found.append((name, block[1] if block else "", "\n".join(imports)))
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_folded_solutions_pass_their_checks(path):
    found = solutions(path)
    assert len(found) >= 2
    for name, code, imports in found:
        namespace = {}
        exec(imports, namespace)
        exec(code, namespace)
        function = namespace[[node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)][-1]]
        assert judge(EXERCISES[name], function).status == "solved", name


def test_the_block_of_the_exercise_is_read_as_the_package_of_the_format_reads_it():
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    for (block,) in EXERCISES["dequantise_block"].cases():
        expected = dequantize(block.numpy(), GGMLQuantizationType.Q4_1)
        torch.testing.assert_close(EXERCISES["dequantise_block"].reference(block), torch.from_numpy(expected.copy()))


def scaled(values, factor):
    return values.mean() * factor


@pytest.mark.parametrize(
    "function, words",
    [
        (lambda values: -values.mean(), "Every number has the wrong sign"),
        (lambda values: values.mean() * 3, "3 times the right number"),
        (lambda values: values.mean() + 2, "off by the same amount"),
    ],
)
def test_the_pattern_of_single_numbers_is_that_of_all_cases(function, words):
    for kind in (lambda value: value, float):
        exercise = Exercise(lambda values, kind=kind: kind(values.mean()), numbers, {}, "")
        assert words in judge(exercise, lambda values, kind=kind: kind(function(values))).message


def test_a_single_number_is_not_called_a_multiple_of_the_right_one():
    exercise = Exercise(lambda values: values.mean(), numbers, {}, "")
    message = judge(exercise, lambda values: values.std()).message
    assert re.search(r"it returned 1\.\d+, expected 3\.5\.$", message), message


MASK = torch.tensor([[True, False, False], [True, True, False]])


@pytest.mark.parametrize(
    "mask, words",
    [
        (torch.ones(2, 3, dtype=torch.bool), r"3 of 6 places are True where it should be False, the first at \(0, 1\)\.$"),
        (torch.zeros(2, 3, dtype=torch.bool), r"3 of 6 places are False where it should be True, the first at \(0, 0\)\.$"),
        (MASK.flip(1), r"2 of 6 places are True where.*, and 2 of 6 places are False where"),
        (MASK & (torch.arange(3) < 1), r"one of 6 places is False where it should be True, the first at \(1, 1\)\.$"),
    ],
)
def test_of_a_mask_it_is_said_what_it_allows_and_forbids_wrongly(mask, words):
    assert re.search(words, judge(Exercise(lambda length: MASK, lambda: [(3,)], {}, ""), lambda length: mask).message)


def test_zeros_and_ones_that_allow_too_much_are_no_multiple_of_the_right_ones():
    for right in (MASK.float(), MASK * torch.tensor([1.0, 2.0, 3.0])):
        message = judge(
            Exercise(lambda length, right=right: right, lambda: [(3,)], {}, ""), lambda length, right=right: right + (right == 0)
        ).message
        assert "times" not in message and "instead of 0." in message


def works_and_returns_nothing(values):
    values * 2


def still_to_be_written(values):
    """(rows, columns) -> (rows, columns)"""


def test_a_forgotten_return_is_not_taken_for_a_stub():
    verdict = judge(DOUBLING, works_and_returns_nothing)
    assert verdict.status == "wrong" and "it returned nothing (is a return missing?)" in verdict.message
    assert judge(DOUBLING, still_to_be_written).status == "unsolved"


SQUARING = Exercise(lambda values: values**2, numbers, {}, "", learning=(0,))


def test_a_right_result_with_a_wrong_gradient_is_not_right():
    assert judge(SQUARING, lambda values: values * values).status == "solved"
    assert "no gradient flows back" in judge(SQUARING, lambda values: values.detach() ** 2).message
    half = judge(SQUARING, lambda values: values * values.detach()).message
    assert "The gradient of values:" in half and "0.5 times the right number" in half
    root = judge(SQUARING, lambda values: values**2 + torch.nan_to_num((values - values).sqrt() * 0)).message
    assert "The gradient of values: 100% of the numbers are NaN or infinite" in root
    known = Exercise(SQUARING.reference, numbers, {"detached": Wrong(lambda right: right.detach()).hint("Detached.")}, "", learning=(0,))
    assert judge(known, lambda values: values.detach() ** 2).message == "not yet. Detached."
    assert judge(SQUARING, in_place).message.startswith("not yet. Called with values")


def test_the_attention_of_the_exercise_is_torchs():
    for queries, keys, values, heads in EXERCISES["attend"].cases():
        split = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (queries, keys, values))
        expected = torch.nn.functional.scaled_dot_product_attention(*split).transpose(1, 2).flatten(-2)
        torch.testing.assert_close(EXERCISES["attend"].reference(queries, keys, values, heads), expected)


def attend_by_views(queries, keys, values, heads):
    """The classic: a view straight to (batch, heads, length, head_dim), and one back."""
    batch, length, dim = queries.shape
    queries, keys, values = (x.view(batch, heads, length, dim // heads) for x in (queries, keys, values))
    weights = (queries @ keys.transpose(-2, -1) / (dim // heads) ** 0.5).softmax(dim=-1)
    return (weights @ values).view(batch, length, dim)


def attend_by_views_and_back(queries, keys, values, heads):
    batch, length, dim = queries.shape
    queries, keys, values = (x.view(batch, heads, length, dim // heads) for x in (queries, keys, values))
    weights = (queries @ keys.transpose(-2, -1) / (dim // heads) ** 0.5).softmax(dim=-1)
    return (weights @ values).transpose(1, 2).reshape(batch, length, dim)


def step_without_root(query, key, value, keys, values):
    position = torch.tensor([keys.shape[2]])
    angles = rotary_angles(position, rotary_frequencies(query.shape[-1]))
    keys, values = torch.cat([keys, rotate(key, angles)], 2), torch.cat([values, value], 2)
    weights = (rotate(query, angles) @ keys.transpose(-2, -1) / query.shape[-1]).softmax(-1)
    return weights @ values, keys, values


def rotary_by_pairs(x, positions, base):
    half = x.shape[-1] // 2
    angles = positions[:, None] * base ** (-2 * torch.arange(half) / half)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()], -1)


def mask_of_new_before_kept(length, past):
    new = torch.tril(torch.ones(length, length, dtype=torch.bool))
    return torch.cat([new, torch.ones(length, past, dtype=torch.bool)], dim=1)


def duplicates_by_in(logits, captions):
    logits = logits.clone()
    for row, one in enumerate(captions):
        for column, other in enumerate(captions):
            if row != column and one in other:
                logits[row, column] = float("-inf")
    return logits


def running_counts(ids, mask, question_mark, end):
    scored = (ids == question_mark).cumsum(1) > (ids == end).cumsum(1)
    return torch.where(scored, ids, -100)


def no_mask_read(ids, mask, question_mark, end):
    labels = torch.full_like(ids, -100)
    for row in range(len(ids)):
        answering = False
        for column, token in enumerate(ids[row].tolist()):
            if answering:
                labels[row, column] = token
            answering = token == question_mark or (answering and token != end)
    return labels


def nan_removed(words, pictures, visible, norm, attention, gate):
    return words + gate.tanh() * torch.nan_to_num(attention(norm(words), pictures, visible[:, None]))


def first_word_hard_coded(words, pictures, visible, norm, attention, gate):
    visible = visible.clone()
    visible[:, 0] = True
    seen = attention(norm(words), pictures, visible[:, None])
    return words + gate.tanh() * seen * (torch.arange(words.shape[1]) > 0)[:, None]


def runs_by_number(ids, image_token_id):
    """Each picture has the number of its run, and a token sees those of the run that it has come to: later ones of it as well."""
    pictures = ids == image_token_id
    begins = pictures & ~torch.cat([torch.tensor([False]), pictures[:-1]])
    run = begins.cumsum(0)
    return run[:, None] == run[pictures][None]


def shifted_comparison(inputs, labels):
    return bool((labels[:, 1:] == inputs[:, :-1])[labels[:, 1:] != -100].all())


def bce(images, texts, log_scale):
    logits = log_scale.exp() * torch.nn.functional.normalize(images, dim=-1) @ torch.nn.functional.normalize(texts, dim=-1).T
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.eye(len(logits)))


@pytest.mark.parametrize(
    "name, function, words",
    [
        ("attend", attend_by_views, "cuts each head out of a few neighbouring tokens"),
        ("attend", attend_by_views_and_back, "cuts each head out of a few neighbouring tokens"),
        ("cached_step", step_without_root, "divide by the square root"),
        ("rotary", rotary_by_pairs, "i already counts pairs"),
        ("causal_mask", mask_of_new_before_kept, "first those kept"),
        ("mask_duplicates", duplicates_by_in, "Asked for are equal captions: =="),
        ("mask_labels", running_counts, "include the token itself"),
        ("mask_labels", no_mask_read, "You never read the mask"),
        ("gated_block", nan_removed, "In the backward pass the gradient goes through that softmax, and is NaN"),
        ("gated_block", first_word_hard_coded, "the first word, and it alone"),
        ("visible_pictures", runs_by_number, "sees pictures that come after it"),
        ("loss_falls_to_zero", lambda inputs, labels: False, "You answer False to every collator"),
        ("loss_falls_to_zero", shifted_comparison, "the input one place before it"),
        ("contrastive_loss", bce, "Each cell of the matrix is judged by itself"),
    ],
)
def test_what_learners_write_gets_the_hint_on_what_they_did(name, function, words):
    verdict = judge(EXERCISES[name], function)
    assert verdict.status == "mistake" and words in verdict.message, verdict.message


@pytest.mark.parametrize(
    "sentence, true",
    [
        ("two objects", True),
        ("three objects", False),
        ("two large objects", True),
        ("two red stars", False),
        ("three crosses at the top left", False),
        ("two objects at the top left", False),
        ("two object", None),
        ("two of them", None),
        ("no blue star", True),
        ("a red star and a blue ring", True),
        ("a blue ring left of a red star", False),
        ("a red star left of a blue ring", True),
        ("the star above the ring", True),
        ("a large red star at the top left", True),
        ("a star at", None),
        ("", None),
        ("a red star at the top left and a star", False),
    ],
)
def test_the_little_grammar_reads_and_judges_sentences(sentence, true):
    assert lesson_04.truth(sentence) is true
