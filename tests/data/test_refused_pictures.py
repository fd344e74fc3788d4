"""Pictures that show nothing, move, or end too early: refused by name wherever a picture goes in, also behind good ones."""

import io

import numpy as np
import pytest
from PIL import Image

from minimllm import (
    CLIP,
    CLIPConfig,
    CrossAttentionConfig,
    CrossAttentionMLLM,
    LlamaVision,
    LlamaVisionConfig,
    Tokenizer,
    UnifiedConfig,
    UnifiedMLLM,
    answer,
    describe_pictures,
    preprocess,
    zero_shot,
)

TOKENIZER = Tokenizer.from_texts(["what colour is the star ?", "a red star and a blue ring", *(f"word{number}" for number in range(30))])
MODELS = {
    "unified": lambda: UnifiedMLLM(UnifiedConfig.tiny(TOKENIZER.vocab_size, TOKENIZER.image_token_id)),
    "cross-attention": lambda: CrossAttentionMLLM(CrossAttentionConfig.tiny(TOKENIZER.vocab_size)),
    "Llama 3.2 Vision": lambda: LlamaVision(LlamaVisionConfig.tiny(TOKENIZER.vocab_size, image_token_id=TOKENIZER.image_token_id)),
}
GOOD = Image.new("RGB", (40, 40), "red")


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file


def noise(side, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def animated():
    return Image.open(encoded(noise(20), "GIF", save_all=True, append_images=[noise(20, 1), noise(20, 2)]))


def truncated(path):
    path.write_bytes(encoded(noise(200), "JPEG").getvalue()[:5000])
    return Image.open(path)


BAD = {
    "no height": (lambda folder: Image.new("RGB", (5, 0)), "0 x 5 pixels; each side needs 1 pixel or more"),
    "no width": (lambda folder: Image.new("L", (0, 5)), "5 x 0 pixels"),
    "an animation": (lambda folder: animated(), "an animation of 3 frames, or has so many pages; choose one: picture.seek"),
    "cut short": (lambda folder: truncated(folder / "holiday.jpg"), "holiday.jpg) cannot be read to its end: "),
}


def refused(call, *words):
    with pytest.raises(ValueError) as error:
        call()
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("bad", BAD)
def test_a_model_that_is_asked_refuses_it(bad, name, tmp_path):
    (build, words), model = BAD[bad], MODELS[name]()
    where = "picture 0 of sample 1" if name == "Llama 3.2 Vision" else "picture 1"
    refused(lambda: answer(model, TOKENIZER, [GOOD, build(tmp_path)], ["what colour is the star ?"] * 2), where, words)
    refused(lambda: describe_pictures(model, TOKENIZER, build(tmp_path)), "picture 0", words)


@pytest.mark.parametrize("bad", BAD)
def test_a_classifier_made_of_clip_and_its_preparation_refuse_it(bad, tmp_path):
    build, words = BAD[bad]
    clip = CLIP(CLIPConfig.tiny(TOKENIZER.vocab_size, TOKENIZER.eos_token_id))
    refused(lambda: zero_shot(clip, TOKENIZER, [GOOD, build(tmp_path)], ["red star", "blue ring"]), "picture 1", words)
    refused(lambda: preprocess([GOOD, build(tmp_path)], 32, (0.5,) * 3, (0.5,) * 3), "picture 1", words)


def test_a_frame_of_an_animation_and_a_photograph_with_a_preview_are_pictures():
    animation = animated()
    animation.seek(1)
    photo = Image.open(encoded(noise(20), "MPO", save_all=True, append_images=[noise(8)]))
    assert photo.format == "MPO"
    assert preprocess([animation.copy(), photo], 32, (0.5,) * 3, (0.5,) * 3).shape == (2, 3, 32, 32)


@pytest.mark.parametrize("name", MODELS)
def test_a_question_with_an_image_token_of_its_own_is_told_both_numbers(name):
    model = MODELS[name]()
    with pytest.raises(ValueError, match=f"{1 + getattr(model, 'image_tokens', 1)} image tokens"):
        answer(model, TOKENIZER, [GOOD], ["<|image|> what colour is the star ?"])
