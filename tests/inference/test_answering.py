"""Asking about pictures: prompts as in training, pictures of any size, clear errors; a model that learns four scenes by heart."""

from dataclasses import replace

import pytest
import torch
from PIL import Image
from support import randomise, unchecked
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from minimllm import (
    LanguageModel,
    LanguageModelConfig,
    LlamaVision,
    LlamaVisionConfig,
    Tokenizer,
    UnifiedConfig,
    UnifiedMLLM,
    answer,
    describe_pictures,
    generate,
)
from minimllm.data.asking import sample_questions
from minimllm.data.captioning import captions
from minimllm.data.rendering import render
from minimllm.data.words import WORDS
from minimllm.data.world import scenes
from minimllm.inference.answering import prompts
from minimllm.training import TrainingConfig, train
from minimllm.training.packing import exact_matches, pack, packed_loss

TOKENIZER = Tokenizer.from_words(WORDS)


def language_model():
    return randomise(LanguageModel(LanguageModelConfig.tiny(TOKENIZER.vocab_size, dim=24, layers=2, mlp_dim=32)))


def unified():
    return randomise(UnifiedMLLM(UnifiedConfig.course(TOKENIZER.vocab_size, TOKENIZER.image_token_id)))


@pytest.fixture(scope="module")
def learned():
    """A model that has learned the questions and captions of four scenes by heart, and those scenes."""
    world = scenes(4, 0, "train", objects=2)
    model = UnifiedMLLM(UnifiedConfig.course(TOKENIZER.vocab_size, TOKENIZER.image_token_id))
    images, questions, sentences = render(world), sample_questions(world, 6), captions(world, "full")
    batch = pack(TOKENIZER, questions, sentences, image_tokens=model.image_tokens, images=model.picture_inputs(images)["images"])
    model.vision.requires_grad_(False)
    config = TrainingConfig(steps=60, muon_modules=("blocks", "projector"))
    history = train(model, lambda step: batch, packed_loss, config, progress=False)
    return model, images, questions.texts(), sentences, batch, history


def test_packed_training_learns_what_answer_then_says(learned):
    model, images, texts, sentences, batch, history = learned
    assert history.losses[-1] < 0.1 < 3 < history.losses[0] and set(history.metrics) == {"answers", "captions"}
    assert exact_matches(model, batch).all()
    for row, asked in enumerate(texts):
        questions = [question for question, _, _ in asked]
        assert answer(model, TOKENIZER, images[row : row + 1].expand(6, -1, -1, -1), questions) == [reply for _, reply, _ in asked]
    assert describe_pictures(model, TOKENIZER, images) == [sentence.replace(" ,", ",") for sentence in sentences]


def test_the_batch_size_and_the_kind_of_picture_change_nothing(learned):
    model, images, texts, _, _, _ = learned
    questions = [asked[0][0] for asked in texts]
    expected = [asked[0][1] for asked in texts]
    for size in (1, 3, 64):
        assert answer(model, TOKENIZER, images, questions, batch_size=size) == expected
    pictures = [to_pil_image(image) for image in images]
    assert answer(model, TOKENIZER, pictures, questions) == expected
    assert answer(model, TOKENIZER, pictures[0], questions[0]) == expected[:1]
    enlarged = [picture.resize((96, 96), Image.Resampling.NEAREST) for picture in pictures]
    assert answer(model, TOKENIZER, enlarged, [question.upper() for question in questions]) == expected


def test_the_model_stays_in_its_mode_and_the_random_state_as_it_was():
    model, pictures = unified().train(), torch.rand(2, 3, 32, 32)
    before = torch.random.get_rng_state()
    answer(model, TOKENIZER, pictures, ["what colour is the star ?"] * 2)
    assert model.training and torch.equal(torch.random.get_rng_state(), before)


def test_prompts_are_those_of_training():
    world = scenes(3, 0, "train")
    questions = sample_questions(world, 1)
    batch = pack(TOKENIZER, questions, image_tokens=4)
    ids, mask = prompts(TOKENIZER, [asked[0][0] for asked in questions.texts()], 4)
    for row in range(3):
        prompt = batch.ids[row][(batch.segments[row] >= 0) & (batch.scored[row] == 0)]
        assert torch.equal(ids[row][mask[row]], prompt)


def test_without_pictures_any_model_answers_as_from_text_alone():
    questions = ["what colour is the star ?", "is there a red ring ?", "how many objects are there ?"]
    for model in (language_model(), unified()):
        replies = answer(model, TOKENIZER, None, questions, max_new_tokens=5)
        for question, reply in zip(questions, replies, strict=True):
            ids, _ = TOKENIZER([question], end=False)
            written = generate(model, ids, 5, eos_token_id=TOKENIZER.eos_token_id)[:, ids.shape[1] :]
            assert TOKENIZER.decode(written) == [reply]


def test_llama_vision_is_asked_with_tiles():
    model = randomise(LlamaVision(LlamaVisionConfig.tiny(TOKENIZER.vocab_size)))
    pictures = [to_pil_image(image) for image in render(scenes(3, 0, "train"), size=40)]
    questions = ["what colour is the star ?", "is there a red ring ?", "how many objects are there ?"]
    replies = answer(model, TOKENIZER, pictures, questions, max_new_tokens=5)
    as_tensor = torch.stack([pil_to_tensor(picture) for picture in pictures]) / 255
    assert answer(model, TOKENIZER, as_tensor, questions, max_new_tokens=5) == replies
    for picture, question, reply in zip(pictures, questions, replies, strict=True):
        ids, _ = TOKENIZER([f"<|image|> {question}"], end=False)
        written = generate(model, ids, 5, tiles=model.prepare_tiles([[picture]]), eos_token_id=TOKENIZER.eos_token_id)
        assert TOKENIZER.decode(written[:, ids.shape[1] :]) == [reply]


def test_what_cannot_be_answered_is_refused():
    model, picture = unified(), torch.rand(1, 3, 32, 32)
    with pytest.raises(ValueError, match="got 1 pictures and 2 questions"):
        answer(model, TOKENIZER, picture, ["what colour is the star ?"] * 2)
    with pytest.raises(ValueError, match="at least one and none empty"):
        answer(model, TOKENIZER, picture[:0], [])
    with pytest.raises(ValueError, match="at least one and none empty"):
        answer(model, TOKENIZER, picture, ["  "])
    with pytest.raises(ValueError, match="does not know the word 'dragon'"):
        answer(model, TOKENIZER, picture, ["where is the dragon ?"])
    with pytest.raises(ValueError, match="reads text alone and got 1 pictures"):
        answer(language_model(), TOKENIZER, picture, ["what colour is the star ?"])
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        answer(model, TOKENIZER, picture * 255, ["what colour is the star ?"])
    with pytest.raises(ValueError, match="at most 77"):
        answer(model, TOKENIZER, picture, ["what " * 100])
    with pytest.raises(ValueError, match="positions"):
        answer(model, TOKENIZER, picture, ["what colour is the star ?"], max_new_tokens=300)
    with unchecked(), pytest.raises(ValueError, match="3 channels"):
        answer(model, TOKENIZER, picture[:, :1], ["what colour is the star ?"])
    with pytest.raises(ValueError, match="at least one; got none"):
        describe_pictures(model, TOKENIZER, picture[:0])


def test_every_end_token_of_the_config_ends_an_answer():
    model, question = language_model(), "what colour is the star ?"
    ids, _ = TOKENIZER([question], end=False)
    free = generate(model, ids, 12)[0, ids.shape[1] :].tolist()
    ends = (free[3], TOKENIZER.eos_token_id, free[2])
    told = LanguageModel(replace(model.config, eos_token_id=ends))
    told.load_state_dict(model.state_dict())
    stop = next(place for place, token in enumerate(free) if token in ends)
    assert answer(told, TOKENIZER, None, question, max_new_tokens=12) == TOKENIZER.decode(torch.tensor([free[: stop + 1]]))
    assert stop < len(free) - 1 and answer(model, TOKENIZER, None, question, max_new_tokens=12) != answer(
        told, TOKENIZER, None, question, max_new_tokens=12
    )
