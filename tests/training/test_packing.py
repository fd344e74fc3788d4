"""Packed rows: what is in them, what is scored, and that a packed text has the logits that it would have alone."""

import pytest
import torch
import torch.nn.functional as F
from support import largest_difference, randomise, unchecked

from minimllm import LanguageModel, LanguageModelConfig, Tokenizer, UnifiedConfig, UnifiedMLLM
from minimllm.data.asking import Questions, in_pictures, sample_questions
from minimllm.data.captioning import captions
from minimllm.data.words import WORDS
from minimllm.data.world import scenes
from minimllm.layers.masks import same_picture_mask, segment_mask
from minimllm.layers.segments import predecessors, segment_positions
from minimllm.training.packing import ANSWER, CAPTION, Packed, exact_matches, pack, packed_loss, scored_logits

TOKENIZER = Tokenizer.from_words(WORDS)
SIZES = dict(dim=24, layers=2, heads=4, mlp_dim=32)


def some(rows=5, each=3, seed=0):
    world = scenes(rows, seed, "train")
    return world, sample_questions(world, each, seed=seed), captions(world, "full")


def language_model(**changes):
    return randomise(LanguageModel(LanguageModelConfig.tiny(TOKENIZER.vocab_size, **SIZES | changes)))


def unified(**changes):
    config = UnifiedConfig.course(TOKENIZER.vocab_size, TOKENIZER.image_token_id, **changes)
    return randomise(UnifiedMLLM(config))


def words(ids):
    return " ".join(TOKENIZER.words[number] for number in ids.tolist())


def test_a_row_says_what_the_scene_says():
    _, questions, sentences = some()
    batch = pack(TOKENIZER, questions, sentences, image_tokens=2)
    for row, (caption, asked) in enumerate(zip(sentences, questions.texts(), strict=True)):
        expected = [caption + " <end>", *(f"{question} {answer} <end>" for question, answer, _ in asked)]
        assert words(batch.ids[row][batch.segments[row] == 0]) == "<start> <|image|> <|image|>"
        assert [words(batch.ids[row][batch.segments[row] == number]) for number in range(1, 5)] == expected


def test_scored_are_answers_and_captions_with_their_ends_and_nothing_else():
    _, questions, sentences = some()
    batch = pack(TOKENIZER, questions, sentences, image_tokens=2)
    for row, (caption, asked) in enumerate(zip(sentences, questions.texts(), strict=True)):
        assert words(batch.ids[row][batch.scored[row] == CAPTION]) == caption + " <end>"
        assert words(batch.ids[row][batch.scored[row] == ANSWER]) == " ".join(f"{answer} <end>" for _, answer, _ in asked)


def test_earlier_turns_stand_in_the_prefix_each_with_its_picture():
    _, questions, sentences = some(rows=6)
    earlier = Questions(*(part[:, :2] for part in some(rows=6, seed=1)[1].__dict__.values()))
    batch = pack(TOKENIZER, questions, sentences, image_tokens=2, earlier=earlier)
    plain = pack(TOKENIZER, questions, sentences, image_tokens=2)
    picture = "<|image|> <|image|>"
    for row, turns in enumerate(earlier.texts()):
        told = " ".join(f"{picture} {question} {answer} <end>" for question, answer, _ in turns)
        prefix = batch.segments[row] == 0
        assert words(batch.ids[row][prefix]) == f"<start> {told} {picture}"
        assert words(batch.ids[row][prefix & (batch.scored[row] == ANSWER)]) == " ".join(f"{answer} <end>" for _, answer, _ in turns)
        assert torch.equal(batch.ids[row][batch.segments[row] > 0], plain.ids[row][plain.segments[row] > 0])


def test_mistakes_in_earlier_turns_are_not_held_against_the_last_segment():
    _, questions, _ = some(rows=4)
    model = language_model()
    model.image_token_id = None
    batch = pack(TOKENIZER, questions, image_tokens=1, pictures=0)
    batch = batch._replace(segments=batch.segments - (batch.segments > 0).int())  # the first question becomes part of the prefix
    scored = exact_matches(model, batch)
    assert torch.equal(scored, exact_matches(model, batch._replace(scored=batch.scored.masked_fill(batch.segments == 0, 0))))
    assert not exact_matches(model, batch._replace(segments=batch.segments.clamp(max=1))).all(), "an untrained model makes mistakes"
    only_prefix = batch._replace(scored=batch.scored.masked_fill(batch.segments > 0, 0))
    assert exact_matches(model, only_prefix).all()


def test_padding_is_behind_and_has_no_segment():
    _, questions, sentences = some(rows=12)
    batch = pack(TOKENIZER, questions, sentences, image_tokens=2)
    padding = batch.segments < 0
    assert padding.any(), "rows differ in length"
    assert (padding.int().diff(dim=1) >= 0).all() and not padding.all(dim=0).any(), "behind, and no longer than needed"
    assert (batch.ids[padding] == TOKENIZER.pad_token_id).all() and (batch.scored[padding] == 0).all()


def test_positions_of_every_segment_go_on_from_the_prefix():
    segments = torch.tensor([[0, 0, 0, 1, 1, 2, 2, 2, -1], [0, 1, 1, 1, 1, 3, 3, -1, -1]])
    expected = torch.tensor([[0, 1, 2, 3, 4, 3, 4, 5], [0, 1, 2, 3, 4, 1, 2, 0]])
    real = segments[:, :-1] >= 0
    assert torch.equal(segment_positions(segments)[:, :-1][real], expected[real])
    steps = torch.tensor([[1, 1, 0, 1, 1, 1, 1, 1, 1]] * 2)
    assert segment_positions(segments, steps)[0].tolist()[:8] == [0, 1, 1, 2, 3, 2, 3, 4]
    assert predecessors(segments)[0].tolist()[:8] == [0, 0, 1, 2, 3, 2, 5, 6]
    assert predecessors(segments)[1].tolist()[:7] == [0, 0, 1, 2, 3, 0, 5]


def test_the_mask_of_a_small_row_by_hand():
    rows = ["10000000", "11000000", "11100000", "11110000", "11001000", "11001100"]
    mask = segment_mask(torch.tensor([[0, 0, 1, 1, 2, 2, -1, -1]]))[0, 0].long()
    assert ["".join(map(str, row.tolist())) for row in mask[:6]] == rows
    assert not mask[:6, 6:].any() and mask.any(dim=1).all(), "nobody sees padding, and padding sees something"


def test_tokens_of_one_picture_see_each_other():
    mask = same_picture_mask(torch.tensor([[0, 1, 1, 2, 2, 0]]))[0, 0].long()
    assert mask.tolist() == [[0] * 6, [0, 1, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 0], [0] * 6]


OPTIONS = {
    "course": {},
    "a position for each visual token": dict(shared_position=False),
    "bidirectional over the picture": dict(image_prefix=True),
    "16 visual tokens": dict(merge=1),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_a_packed_text_has_the_logits_it_has_alone(option):
    model = unified(**OPTIONS[option])
    pictures = torch.tensor([1, 0, 2, 1, 1])
    _, questions, sentences = some()
    images = torch.randn(5, 3, 32, 32)
    batch = pack(TOKENIZER, questions, sentences, image_tokens=model.image_tokens, pictures=pictures, images=images)
    logits = model(batch.ids, batch.images, segments=batch.segments)
    assert logits.isfinite().all()
    before = predecessors(batch.segments)
    for row, own in enumerate(images.split(pictures.tolist())):
        for number in range(1, 5):
            text = (batch.segments[row] == number).nonzero().flatten()
            keep = (batch.segments[row] == 0) | (batch.segments[row] == number)
            alone = model(batch.ids[row][keep][None], own if len(own) else None)[0]
            assert largest_difference(logits[row, before[row, text]], alone[-len(text) - 1 : -1]) < 2e-5


def test_a_packed_text_of_the_language_model_has_the_logits_it_has_alone():
    model = language_model()
    _, questions, sentences = some()
    batch = pack(TOKENIZER, questions, sentences, image_tokens=1, pictures=0)
    logits, (rows, places) = scored_logits(model, batch)
    for index in range(0, len(rows), 7):
        row, place = rows[index], places[index]
        keep = (batch.segments[row] == 0) | (batch.segments[row] == batch.segments[row, place])
        keep &= torch.arange(len(keep)) < place
        assert largest_difference(logits[index], model(batch.ids[row][keep][None])[0, -1]) < 2e-5


def test_the_loss_is_that_of_the_texts_one_by_one():
    model = unified()
    _, questions, sentences = some()
    images = torch.randn(5, 3, 32, 32)
    batch = pack(TOKENIZER, questions, sentences, image_tokens=model.image_tokens, images=images)
    losses = {ANSWER: [], CAPTION: []}
    for row in range(5):
        for number in range(1, 5):
            keep = (batch.segments[row] == 0) | (batch.segments[row] == number)
            ids, scored = batch.ids[row][keep], batch.scored[row][keep]
            each = F.cross_entropy(model(ids[None], images[row : row + 1])[0, :-1], ids[1:], reduction="none")
            losses[CAPTION if number == 1 else ANSWER] += each[scored[1:] > 0].tolist()
    mean = {kind: sum(values) / len(values) for kind, values in losses.items()}
    loss, metrics = packed_loss(model, batch, caption_weight=0.25)
    assert abs(loss - (mean[ANSWER] + 0.25 * mean[CAPTION])) < 1e-4
    assert set(metrics) == {"answers", "captions"}
    assert abs(packed_loss(model, pack(TOKENIZER, questions, image_tokens=4, images=images))[0] - mean[ANSWER]) < 1e-4
    assert abs(packed_loss(model, pack(TOKENIZER, None, sentences, image_tokens=4, images=images))[0] - mean[CAPTION] / 2) < 1e-4


def test_features_computed_before_give_the_same_loss():
    model = unified()
    _, questions, sentences = some()
    batch = pack(TOKENIZER, questions, sentences, image_tokens=4, images=torch.randn(5, 3, 32, 32))
    again = batch._replace(images=None, features=model.features(batch.images))
    assert torch.equal(packed_loss(model, batch)[0], packed_loss(model, again)[0])


def test_exact_matches_are_texts_without_a_mistake():
    model = unified()
    _, questions, sentences = some()
    batch = pack(TOKENIZER, questions, sentences, image_tokens=4, images=torch.randn(5, 3, 32, 32))
    _, where = scored_logits(model, batch)
    taught = batch._replace(ids=batch.ids.clone())
    # One segment gets the model's own guesses, token by token, until they stay: that text is then exactly right.
    row, number = 2, 3
    chosen = (where[0] == row) & (batch.segments[where] == number)
    for _ in range(int(chosen.sum()) + 1):
        logits, _ = scored_logits(model, taught)
        logits[:, model.image_token_id] = float("-inf")
        guesses = logits.argmax(dim=-1)
        taught.ids[where[0][chosen], where[1][chosen]] = guesses[chosen]
    matches = exact_matches(model, taught)
    assert matches.shape == (5, 4) and matches[row, number - 1]
    taught.ids[where[0][chosen][-1], where[1][chosen][-1]] = (guesses[chosen][-1] + 1) % TOKENIZER.vocab_size
    assert not exact_matches(model, taught)[row, number - 1]


def test_questions_about_several_pictures_of_a_row():
    world = scenes(6, 0, "train")
    questions = in_pictures(sample_questions(world, 2), pictures=3)
    batch = pack(TOKENIZER, questions, image_tokens=4, pictures=3)
    assert batch.ids.shape[0] == 2 and (batch.ids == TOKENIZER.image_token_id).sum().item() == 2 * 3 * 4
    assert words(batch.ids[1][batch.segments[1] == 3]).startswith("in the second picture , ")


def test_what_cannot_be_packed_is_refused():
    _, questions, sentences = some()
    with pytest.raises(ValueError, match="nothing to pack"):
        pack(TOKENIZER, image_tokens=4)
    with pytest.raises(ValueError, match="5 rows of questions need 5 captions, got 4"):
        pack(TOKENIZER, questions, sentences[:4], image_tokens=4)
    with pytest.raises(ValueError, match="pictures -1"):
        pack(TOKENIZER, questions, image_tokens=4, pictures=-1)
    with unchecked(), pytest.raises(ValueError, match=r"pictures \[1, 1\]"):
        pack(TOKENIZER, questions, image_tokens=4, pictures=torch.tensor([1, 1]))
    with pytest.raises(ValueError, match=r"does not know the word .\?."):
        pack(Tokenizer.from_words([word for word in WORDS if word != "?"]), questions, image_tokens=4)
    nothing = Packed(*(torch.zeros(2, 3, dtype=torch.long) for _ in range(3)))
    with pytest.raises(ValueError, match="no token of this batch is scored"):
        packed_loss(language_model(), nothing)
