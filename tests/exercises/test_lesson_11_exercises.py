"""Lesson 11's exercises: their rules are the package's and the released tokenizer's; a wrong forward pass is told where it goes astray."""

import re
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from support import randomise
from torch import nn

from minimllm import LanguageModelConfig, LoRA, UnifiedConfig, UnifiedMLLM, ViTConfig, exercises, released
from minimllm.exercises import judge
from minimllm.exercises.lesson_11 import OPENING, conversation, label_cases

EXERCISES = exercises.all_exercises()
VISION = ViTConfig((8, 16), 4, 3, 6, 2, 2, 10, classes=0, class_token=False)
LANGUAGE = LanguageModelConfig(30, 8, 3, 4, 12, key_value_heads=2, tied=True)


def model(**changes) -> UnifiedMLLM:
    form = dict(feature_layer=-1, final_norm=True, projector="linear", projector_bias=False, merge=2)
    return randomise(UnifiedMLLM(UnifiedConfig(VISION, LANGUAGE, 5, **form | changes), seed=1))


IDS = torch.tensor([[1, 5, 5, 7, 8, 5, 5, 3], [2, 9, 0, 5, 5, 4, 2, 2]])
IMAGES = torch.randn(3, 3, 8, 16, generator=torch.Generator().manual_seed(2))


def forward(ids, images, vision, linear, language_model, image_token_id, merge):
    """As a learner writes it."""
    rows, columns = (side // merge for side in vision.config.grid)
    patches = rearrange(vision.encode(images), "b (r m c n) d -> b (r c) (m n d)", r=rows, m=merge, n=merge)
    x = language_model.tokens(ids)
    x[ids == image_token_id] = linear(patches).flatten(0, 1)
    return language_model.logits(language_model.decode(x))


def row_by_row(ids, images, vision, linear, *others):
    counts = (ids == 5).sum(dim=1) // 2 if len(images) == 3 else None
    if counts is None:
        return forward(ids, images, vision, linear, *others)
    parts = images.split(counts.tolist())
    return torch.cat([forward(ids[i : i + 1], parts[i], vision, linear, *others) for i in range(len(ids))])


def without_the_module(ids, images, vision, linear, *others):
    return forward(ids, images, vision, lambda x: F.linear(x, linear.weight), *others)


def blind(ids, images, vision, linear, language_model, *others):
    return language_model(ids)


def other_pictures(ids, images, *parts):
    return forward(ids, images.flip(0), *parts)


def merged_otherwise(ids, images, vision, linear, language_model, image_token_id, merge):
    x = language_model.tokens(ids)
    patches = rearrange(vision.encode(images), "b (n p) d -> b p (n d)", n=merge**2)
    x[ids == image_token_id] = linear(patches).flatten(0, 1)
    return language_model.logits(language_model.decode(x))


def next_places(ids, images, vision, linear, language_model, image_token_id, merge):
    x = language_model.tokens(ids.roll(1, dims=1))
    return language_model.logits(language_model.decode(x))


def every_token_at_zero(ids, images, vision, linear, language_model, *others):
    class Decoder(nn.Module):
        tokens, logits = language_model.tokens, language_model.logits

        def decode(self, x):
            return language_model.decode(x, positions=torch.zeros(x.shape[1], dtype=torch.long))

    return forward(ids, images, vision, linear, Decoder(), *others)


def blocks_twice(ids, images, vision, linear, language_model, *others):
    class Decoder(nn.Module):
        tokens, logits = language_model.tokens, language_model.logits

        def decode(self, x):
            attend, rotary = language_model.prepare(x)
            for block in (*language_model.blocks[:2], language_model.blocks[1], language_model.blocks[2]):
                x = block(x, attend, rotary)
            return language_model.norm(x)

    return forward(ids, images, vision, linear, Decoder(), *others)


def doubled(*arguments):
    return 2 * forward(*arguments)


def last_place(*arguments):
    return forward(*arguments)[:, -1]


@pytest.mark.parametrize("function", [forward, row_by_row, without_the_module])
def test_right_forward_passes_are_accepted_however_they_are_written(function, capsys):
    exercises.check_forward(function, model(), IDS, IMAGES)
    assert capsys.readouterr().out == f"{function.__name__}: right: the model's logits, 2 x 8 x 30 of them, to rounding.\n"


@pytest.mark.parametrize("function", [forward, without_the_module])
def test_the_solution_passes_its_check(function):
    assert judge(EXERCISES["unified_forward"], function).status == "solved"


@pytest.mark.parametrize("merge", [1, 2])
def test_the_reference_is_the_packages_model(merge):
    ours = model(merge=merge)
    ids = torch.tensor([[1, *[5] * ours.image_tokens, 7, 8], [5] * ours.image_tokens + [0, 2, 3]])
    parts = (ours.vision, ours.projector.down, ours.language_model, 5, merge)
    torch.testing.assert_close(EXERCISES["unified_forward"].reference(ids, IMAGES[:2], *parts), ours(ids, IMAGES[:2]))


ASTRAY = [
    (blind, "What goes into the decoder's first block is the first place that differs: 6 of 16"),
    (other_pictures, "not yet. What the encoder gives is the first place that differs: .*; all of them are there, in other places"),
    (
        merged_otherwise,
        "Right so far: what the encoder gives. Then what goes into the linear layer is the first place that differs: .* of 6 v",
    ),
    (next_places, "What goes into the decoder's first block is the first place that differs"),
    (every_token_at_zero, "first block. Then what comes out of the decoder's first block is .* differs: .*the mask or the rotary angles"),
    (blocks_twice, "first block. Then what comes out of the decoder's last block is .* differs: 16 of 16"),
    (doubled, "into the head. Then the logits are the first place that differs: 16 of 16 vectors"),
    (last_place, r"Then the logits are .* it returned a tensor \(2, 30\) of float32, expected a tensor \(2, 8, 30\) of float32"),
    (lambda *arguments: None, "What the encoder gives is the first place that is not reached: its module is never called. Its patches"),
]


@pytest.mark.parametrize("function, words", ASTRAY, ids=[function.__name__ for function, _ in ASTRAY])
def test_the_first_place_that_differs_is_named(function, words, capsys):
    exercises.check_forward(function, model(), IDS, IMAGES)
    told = capsys.readouterr().out

    assert told.startswith(f"{function.__name__}: not yet. ") and re.search(words, told), told


def test_the_exercise_tells_the_place_too():
    message = judge(EXERCISES["unified_forward"], doubled).message
    assert message.startswith("not yet. Right so far: what the encoder gives; ") and "the logits are the first place" in message


def test_nan_is_no_rounding(capsys):
    exercises.check_forward(lambda *arguments: forward(*arguments) * float("nan"), model(), IDS, IMAGES)
    assert "the logits are the first place that differs: 16 of 16" in capsys.readouterr().out


def test_models_are_left_as_they_were(capsys):
    ours = model()
    for function in (forward, doubled):
        exercises.check_forward(function, ours, IDS, IMAGES)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in ours.modules())


def test_unsolved_raises_nothing_and_what_a_model_must_be_is_told(capsys):
    def stub(*arguments):
        raise NotImplementedError

    exercises.check_forward(stub, model(), IDS, IMAGES)
    assert capsys.readouterr().out.startswith("stub: not solved yet.")
    for changes, words in (
        (dict(projector="mlp"), "projector = 'mlp'"),
        (dict(token_scale=0.5, shared_position=True), "token_scale = 0.5, shared_position = True"),
        (dict(final_norm=False), "final_norm = False"),
        (dict(vision=replace(VISION, class_token=True)), "a class token"),
    ):
        with pytest.raises(ValueError, match=words):
            exercises.check_forward(forward, randomise(UnifiedMLLM(replace(model().config, **changes))), IDS, IMAGES)


def test_labels_of_a_released_templates_conversation():
    """Of what the tokenizer of SmolLM2 writes, exactly the replies and their ends are scored."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(released("smollm2-135m-instruct"))
    said = ["What is this?", "An owl.", "Is the assistant\nawake?", "Yes: the assistant\nis.", "Bye.", "Good night!"]
    messages = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(said)]
    ids = tokenizer(tokenizer.apply_chat_template(messages, tokenize=False), add_special_tokens=False, return_tensors="pt").input_ids
    opening = tokenizer("<|im_start|>assistant\n", add_special_tokens=False).input_ids
    ids = F.pad(ids, (0, 5), value=tokenizer.pad_token_id)
    mask = F.pad(torch.ones_like(ids[:, 5:]), (0, 5))
    labels = EXERCISES["conversation_labels"].reference(ids, mask, opening, tokenizer.eos_token_id)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    assert tokenizer.decode(labels[labels != -100]) == "".join(f"{reply}<|im_end|>" for reply in said[1::2])


def test_cases_hold_what_tells_the_mistakes():
    cases = label_cases()
    assert conversation(([40], [50]))[-4:] == [12, 50, 2, 12]
    assert any((ids[mask == 0] == end).any() for ids, mask, _, end in cases), "padding that is the end token"
    assert any(opening != OPENING for _, _, opening, _ in cases)


def test_lora_is_the_packages():
    for x, weight, down, up, alpha in EXERCISES["lora"].cases():
        linear = nn.Linear(*weight.T.shape, bias=False)
        linear.weight.data = weight
        layer = LoRA(linear, len(down), alpha)
        layer.down.data, layer.up.data = down, up
        torch.testing.assert_close(EXERCISES["lora"].reference(x, weight, down, up, alpha), layer(x))
        if not up.any():
            assert torch.equal(layer(x), linear(x))


def my_labels(ids, mask, opening, end):
    labels = torch.full_like(ids, -100)
    for row in range(len(ids)):
        inside = False
        for place in range(ids.shape[1]):
            token = int(ids[row, place])
            if inside and mask[row, place]:
                labels[row, place] = token
            if token == end or not mask[row, place]:
                inside = False
            elif ids[row, max(0, place + 1 - len(opening)) : place + 1].tolist() == opening:
                inside = True
    return labels


def my_pictures(words, ids, image_token_id, pictures):
    for place, picture in reversed(list(zip((ids == image_token_id).nonzero()[:, 0].tolist(), pictures, strict=True))):
        words = torch.cat([words[:place], picture, words[place + 1 :]])
    return words.clone()


def my_lora(x, weight, down, up, alpha):
    return x @ weight.T + alpha / down.shape[0] * (x @ down.T @ up.T)


@pytest.mark.parametrize(
    "name, function",
    [("conversation_labels", my_labels), ("splice_pictures", my_pictures), ("lora", my_lora)],
    ids=["labels", "pictures", "lora"],
)
def test_solutions_in_other_words_pass(name, function):
    assert judge(EXERCISES[name], function).status == "solved"


def test_the_right_logits_in_another_type_are_told_by_their_type():
    verdict = judge(EXERCISES["unified_forward"], lambda *case: EXERCISES["unified_forward"].reference(*case).double())
    assert verdict.status == "wrong" and "None" not in verdict.message and "float64" in verdict.message
