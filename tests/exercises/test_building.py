"""Forward passes of lessons 06 and 07, built by oneself: the shipped models' are right; a wrong one is told where it goes astray."""

import re
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange

from minimllm import CrossAttentionMLLM, UnifiedMLLM, exercises, load, prompts
from minimllm.exercises import judge, lesson_06_forward, lesson_07_forward
from minimllm.exercises.places import parts_of

EXERCISES = exercises.all_exercises()


def my_forward(ids, images, vision, projector, language_model, image_token_id, merge):
    """As a learner writes it."""
    patches = vision.encode(images)[:, 1:]
    patches = F.rms_norm(patches, patches.shape[-1:])
    rows, columns = (side // merge for side in vision.config.grid)
    pattern = "b (rows m columns n) d -> b (rows columns) (m n d)"
    tokens = projector(rearrange(patches, pattern, rows=rows, columns=columns, m=merge, n=merge))
    is_image = ids == image_token_id
    x = language_model.tokens(ids).masked_scatter(is_image[..., None], tokens)
    number = is_image.cumsum(dim=1) - 1
    steps = ~is_image | (number % tokens.shape[1] == 0)
    return language_model.head(language_model.decode(x, positions=steps.cumsum(dim=1) - 1))


def my_gated_forward(ids, features, projector, language_model, cross_blocks, cross_before, image_token_id):
    """As a learner writes it."""
    tokens = projector(features)
    sees = (ids == image_token_id).cumsum(dim=1) > 0
    visible = sees[..., None].expand(-1, -1, tokens.shape[1])
    x = language_model.tokens(ids)
    attend, rotary = language_model.prepare(x)
    for index, block in enumerate(language_model.blocks):
        if index in cross_before:
            x = cross_blocks[cross_before.index(index)](x, tokens, visible)
        x = block(x, attend, rotary)
    return language_model.head(language_model.norm(x))


FORWARD = {"llava_forward": my_forward, "gated_forward": my_gated_forward}
MODEL = {
    "llava_forward": lambda: lesson_06_forward.small_model(4, (8, 12), 2),
    "gated_forward": lambda: lesson_07_forward.small_model(4, (8, 12), (1, 2)),
}


def asked(name: str, model) -> tuple[torch.Tensor, torch.Tensor]:
    """Two texts with a picture each, at different places, and the pictures."""
    places = [5] * model.image_tokens
    ids = torch.tensor([[1, *places, 7, 8, 9], [2, 9, *places, 4, 3]])
    return ids, torch.randn(2, 2, *model.config.vision.size, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", FORWARD)
def test_the_solution_passes_both_checks(name, capsys):
    assert judge(EXERCISES[name], FORWARD[name]).status == "solved"
    model = MODEL[name]()
    exercises.check_forward(FORWARD[name], model, *asked(name, model))
    assert "right: the model's logits" in capsys.readouterr().out


@pytest.mark.parametrize("name", FORWARD)
def test_the_reference_is_the_packages_model(name):
    model = MODEL[name]()
    ids, images = asked(name, model)
    given = model.features(images) if name == "gated_forward" else images
    torch.testing.assert_close(EXERCISES[name].reference(ids, given, *parts_of(model)), model(ids, images))


@pytest.mark.parametrize("name, shipped", [("llava_forward", "unified"), ("gated_forward", "cross_attention")])
def test_shipped_weights_give_equal_logits_and_wrong_ones_do_not(name, shipped, capsys):
    model, tokenizer = load(shipped)
    ids, _ = prompts(tokenizer, ["what colour is the star ?", "what shape is the blue object ?"], model.image_tokens)
    ids = ids[1:]  # the second is longer, and so without padding
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    exercises.check_forward(FORWARD[name], model, ids, images)
    assert "right: the model's logits" in capsys.readouterr().out
    exercises.check_forward(lambda *given: 1.01 * FORWARD[name](*given), model, ids, images)
    assert "the logits are the first place that differs" in capsys.readouterr().out


def other_pictures(ids, images, *parts):
    return my_forward(ids, images.flip(0), *parts)


def with_class_token(ids, images, vision, projector, language_model, image_token_id, merge):
    class Vision:
        config = vision.config

        def encode(self, images):
            patches = vision.encode(images)
            return torch.cat([patches[:, :1], patches[:, :-1]], dim=1)

    return my_forward(ids, images, Vision(), projector, language_model, image_token_id, merge)


def other_positions(ids, images, vision, projector, language_model, image_token_id, merge):
    class Decoder:
        tokens, head = language_model.tokens, language_model.head

        def decode(self, x, positions):
            return language_model.decode(x)

    return my_forward(ids, images, vision, projector, Decoder(), image_token_id, merge)


def everything_seen(ids, features, projector, language_model, cross_blocks, *others):
    blocks = [lambda x, tokens, visible, block=block: block(x, tokens, None) for block in cross_blocks]
    return my_gated_forward(ids, features, projector, language_model, blocks, *others)


def other_features(ids, features, *parts):
    return my_gated_forward(ids, features.flip(1), *parts)


def one_block_late(ids, features, projector, language_model, cross_blocks, cross_before, image_token_id):
    return my_gated_forward(ids, features, projector, language_model, cross_blocks, (0, 2), image_token_id)


def second_block_lost(ids, features, projector, language_model, cross_blocks, cross_before, image_token_id):
    return my_gated_forward(ids, features, projector, language_model, cross_blocks, cross_before[:1], image_token_id)


ASTRAY = [
    ("llava_forward", other_pictures, "What the encoder's last block gives is the first place that differs: .* in other places"),
    ("llava_forward", with_class_token, "block gives. Then what goes into the projector is the first place that differs: 1?[0-9] of 12"),
    (
        "llava_forward",
        other_positions,
        "what comes out of the decoder's first block is .* a picture have the same position",
    ),
    ("llava_forward", lambda *given: my_forward(*given)[:, -1], r"Then the logits are .* expected a tensor \(2, 10, 30\)"),
    ("gated_forward", other_features, "What the projector gives is the first place that differs"),
    ("gated_forward", one_block_late, "projector gives. Then what goes into the first gated block is the first place that differs"),
    ("gated_forward", everything_seen, "Then what comes out of the first gated block is the first place that differs: 3 of 10"),
    ("gated_forward", second_block_lost, "first gated block. Then what comes out of the decoder's last block is .* differs"),
]


@pytest.mark.parametrize("name, function, words", ASTRAY, ids=[f"{name}-{number}" for number, (name, _, _) in enumerate(ASTRAY)])
def test_the_first_place_that_differs_is_named(name, function, words, capsys):
    model = MODEL[name]()
    exercises.check_forward(function, model, *asked(name, model))
    told = capsys.readouterr().out
    assert "not yet. " in told and re.search(words, told), told


def test_models_of_another_form_are_refused_by_what_they_have():
    model = MODEL["llava_forward"]()
    kept = UnifiedMLLM(replace(model.config, keep_class_token=True, merge=1))
    with pytest.raises(ValueError, match="class token"):
        parts_of(kept)
    with pytest.raises(ValueError, match="thumbnail"):
        square = lesson_07_forward.small_model(1, (4, 4), (0,)).config
        parts_of(CrossAttentionMLLM(replace(square, thumbnail=True)))


@pytest.mark.parametrize("name", FORWARD)
def test_unsolved_says_so(name, capsys):
    def stub(*given):
        raise NotImplementedError

    model = MODEL[name]()
    exercises.check_forward(stub, model, *asked(name, model))
    assert capsys.readouterr().out.startswith("stub: not solved yet.")
