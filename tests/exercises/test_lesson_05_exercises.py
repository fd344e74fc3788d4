"""The builds of lesson 05 tell the first place that differs, and what a loop does without its cache."""

import pytest
import torch
import torch.nn.functional as F

from minimllm import generate
from minimllm.exercises import all_exercises, judge

DECODER, WRITER = (all_exercises()[f"build_{name}"] for name in ("decoder", "writer"))


def test_the_decoder_by_hand_gives_the_models_own_logits():
    for ids, model in DECODER.cases():
        torch.testing.assert_close(DECODER.reference(ids, model), model(ids))
        assert judge(DECODER, lambda ids, model: model(ids)).status == "solved"


def through(ids, model, spoil):
    x = model.tokens(ids)
    attend, rotary = model.prepare(x)
    for number, block in enumerate(model.blocks):
        x = spoil(number, block, x, attend, rotary)
    return model.head(model.norm(x))


def attention_spoiled(number, block, x, attend, rotary):
    given = block.attention_norm(x)
    mixed = block.attention(given if number == 0 else given.flip(0) * 1.5, mask=attend, rotary=rotary)
    x = x + mixed
    return x + block.mlp(block.mlp_norm(x))


def mlp_spoiled(number, block, x, attend, rotary):
    x = x + block.attention(block.attention_norm(x), mask=attend, rotary=rotary)
    given, mlp = block.mlp_norm(x), block.mlp
    return x + (mlp(given) if number == 0 else mlp.down(F.relu(mlp.gate(given)) * mlp.up(given)))


@pytest.mark.parametrize(
    "spoil, words",
    [
        (attention_spoiled, "what the queries are made of in layer 2 is the first place that differs"),
        (mlp_spoiled, "what goes into mlp.down in layer 2 is the first place that differs"),
        (lambda number, block, x, *given: block(x.flip(1) if number == 1 else x, *given), "queries are made of in layer 2"),
    ],
)
def test_the_first_place_that_differs_is_named_with_its_layer(spoil, words):
    verdict = judge(DECODER, lambda ids, model: through(ids, model, spoil))
    assert verdict.status == "wrong" and words in verdict.message
    assert "Right so far: " in verdict.message and "layer 1" not in verdict.message.split("Then ")[1]


def test_logits_of_another_shape_and_wrong_embeddings_are_told():
    assert "(12, 30)" in judge(DECODER, lambda ids, model: model(ids).flatten(0, 1)).message
    message = judge(DECODER, lambda ids, model: through(ids.flip(1), model, lambda number, block, *given: block(*given))).message
    assert "The words' embeddings is the first place that differs" in message


def in_one_line(model, ids, count, temperature, draw):
    cache, new = model.new_cache(), ids
    for _ in range(count):
        new = draw(F.softmax(model(new, None, cache)[:, -1] / temperature, -1))
        ids = torch.cat([ids, new], 1)
    return ids


def test_a_loop_in_other_words_passes_and_writes_what_generate_does():
    assert judge(WRITER, in_one_line).status == "solved"
    model, ids, count, *_ = WRITER.cases()[0]
    greedy = WRITER.reference(model, ids, count, 1.0, lambda probabilities: probabilities.argmax(dim=-1, keepdim=True))
    assert torch.equal(greedy, generate(model.model, ids, count))


def test_a_loop_without_a_cache_is_told_so():
    def uncached(model, ids, count, temperature, draw):
        for _ in range(count):
            ids = torch.cat([ids, draw((model(ids)[:, -1] / temperature).softmax(dim=-1))], dim=1)
        return ids

    verdict = judge(WRITER, uncached)
    assert verdict.status == "wrong" and "this exercise is about the cache" in verdict.message
