"""Writing text: the same tokens with and without the cache, alone and in a batch, and those of transformers."""

from dataclasses import make_dataclass

import numpy as np
import pytest
import torch
from support import randomise, unchecked
from test_language_model import ids_of, pair

from minimllm import LanguageModel, LanguageModelConfig, generate
from minimllm.inference.generation import choose, next_probabilities

MODEL = randomise(LanguageModel(LanguageModelConfig.tiny(40, context_length=64)), std=0.3)


def prompts(batch=3, length=6):
    return torch.randint(4, 40, (batch, length), generator=torch.Generator().manual_seed(1))


def test_greedy_equals_transformers(tmp_path):
    theirs, ours = pair(tmp_path)
    theirs.generation_config.eos_token_id = None
    ids = ids_of(2, 7)
    expected = theirs.generate(ids, max_new_tokens=15, do_sample=False, pad_token_id=0)
    assert torch.equal(generate(ours, ids, 15), expected)
    mask = torch.ones_like(ids)
    mask[1, :3] = 0
    expected = theirs.generate(ids, attention_mask=mask, max_new_tokens=15, do_sample=False, pad_token_id=0)
    assert torch.equal(generate(ours, ids, 15, mask=mask), expected)
    end = int(generate(ours, ids, 15)[0, 10])
    expected = theirs.generate(ids, max_new_tokens=15, do_sample=False, eos_token_id=end, pad_token_id=1)
    assert torch.equal(generate(ours, ids, 15, eos_token_id=end, pad_token_id=1), expected)


@pytest.mark.parametrize("side", ["left", "right", "both"])
@pytest.mark.parametrize("use_cache", [True, False])
def test_padded_rows_write_what_they_write_alone(side, use_cache):
    rows = [prompts(1, length)[0] for length in (3, 8, 5)]
    ids, mask = torch.zeros(3, 10, dtype=torch.long), torch.zeros(3, 10, dtype=torch.bool)
    for number, row in enumerate(rows):
        start = {"left": 10 - len(row), "right": 0, "both": 1}[side]
        ids[number, start : start + len(row)], mask[number, start : start + len(row)] = row, True
    written = generate(MODEL, ids, 12, mask=mask, use_cache=use_cache)
    assert torch.equal(written[:, :10], ids), "the prompts come back as given"
    for number, row in enumerate(rows):
        assert torch.equal(written[number, 10:], generate(MODEL, row[None], 12)[0, len(row) :])


def test_the_cache_changes_no_token():
    assert torch.equal(generate(MODEL, prompts(), 30), generate(MODEL, prompts(), 30, use_cache=False))
    sampled = [generate(MODEL, prompts(), 20, temperature=1.0, seed=5, use_cache=cached) for cached in (True, False)]
    assert torch.equal(*sampled)


def test_with_the_cache_every_token_is_read_once():
    lengths = []
    handle = MODEL.tokens.register_forward_hook(lambda module, inputs, output: lengths.append(inputs[0].shape[1]))
    generate(MODEL, prompts(), 4)
    generate(MODEL, prompts(), 4, use_cache=False)
    handle.remove()
    assert lengths == [6, 1, 1, 1, 6, 7, 8, 9]


def test_rows_stop_at_their_end_token():
    free = generate(MODEL, prompts(), 20)
    end = int(free[0, 9])
    written = generate(MODEL, prompts(), 20, eos_token_id=end, pad_token_id=39)
    for row in range(3):
        expected = free[row, 6:].tolist()
        if end in expected:
            stop = expected.index(end) + 1
            expected = expected[:stop] + [39] * (20 - stop)
        assert written[row, 6:].tolist() == expected[: written.shape[1] - 6]
    assert written[0, 9] == end and (written[0, 10:] == 39).all()
    assert generate(MODEL, prompts(1), 20, eos_token_id=end).shape == (1, 10), "when all rows have ended, so does the writing"


def test_the_padding_is_the_configs_or_the_end_token():
    free = generate(MODEL, prompts(), 20)
    end = int(free[0, 9])
    assert generate(MODEL, prompts(), 20, eos_token_id=end)[0, 10] == end, "no pad id in the config: the end token"
    told = LanguageModel(LanguageModelConfig.tiny(40, context_length=64, pad_token_id=7))
    told.load_state_dict(MODEL.state_dict())
    assert generate(told, prompts(), 20, eos_token_id=end)[0, 10] == 7


@pytest.mark.parametrize("use_cache", [True, False])
def test_the_padding_need_not_be_a_word_of_the_vocabulary(use_cache):
    end = int(generate(MODEL, prompts(), 20)[0, 9])
    written = generate(MODEL, prompts(), 20, eos_token_id=end, pad_token_id=-100, use_cache=use_cache)
    usual = generate(MODEL, prompts(), 20, eos_token_id=end, pad_token_id=39)
    assert written[0, 10] == -100 and torch.equal(written.masked_fill(written == -100, 39), usual)


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_row_ends_at_the_first_of_several_end_tokens(use_cache):
    free = generate(MODEL, prompts(), 20)
    ends = [int(free[0, 9]), int(free[1, 12])]
    written = generate(MODEL, prompts(), 20, eos_token_id=ends, pad_token_id=39, use_cache=use_cache)
    for row, unended in zip(written[:, 6:].tolist(), free[:, 6:].tolist(), strict=True):
        stop = next((place for place, token in enumerate(unended) if token in ends), len(unended) - 1)
        assert row[: stop + 1] == unended[: stop + 1][: len(row)] and set(row[stop + 1 :]) <= {39}
    assert torch.equal(generate(MODEL, prompts(), 20, eos_token_id=[]), free)
    assert generate(MODEL, prompts(1), 20, eos_token_id=ends[:1])[0, -1] == ends[0]
    assert generate(MODEL, prompts().int(), 3).shape == (3, 9)


def test_a_model_that_has_written_goes_on_learning():
    model = LanguageModel(LanguageModelConfig.tiny(40, context_length=300))
    written = generate(model, prompts(), 100)
    torch.nn.functional.cross_entropy(model(written)[:, :-1].flatten(0, 1), written[:, 1:].flatten()).backward()
    assert not written.is_inference() and all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_the_longest_text_fills_all_positions():
    assert generate(MODEL, prompts(), 58).shape == (3, 64)
    assert torch.equal(generate(MODEL, prompts(), 58)[:, :34], generate(MODEL, prompts(), 28))


def test_no_new_tokens_are_the_prompts():
    assert torch.equal(generate(MODEL, prompts(), 0), prompts())


def test_a_seed_repeats_and_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    first, second = (generate(MODEL, prompts(), 20, temperature=1.5, seed=3) for _ in range(2))
    assert torch.equal(first, second) and torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first, generate(MODEL, prompts(), 20, temperature=1.5, seed=4))
    generate(MODEL, prompts(), 2, temperature=1.5)
    assert not torch.equal(torch.get_rng_state(), state), "without a seed it is torch's generator that draws"


def test_probabilities_by_hand():
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    for options, expected in (
        (dict(), [0.5, 0.3, 0.15, 0.05]),
        (dict(temperature=0.5), [x / 0.365 for x in (0.25, 0.09, 0.0225, 0.0025)]),
        (dict(top_k=2), [0.625, 0.375, 0, 0]),
        (dict(top_k=9), [0.5, 0.3, 0.15, 0.05]),
        (dict(top_p=0.79), [0.625, 0.375, 0, 0]),
        (dict(top_p=0.81), [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0]),
        (dict(top_p=1e-9), [1, 0, 0, 0]),
        (dict(top_p=1.0), [0.5, 0.3, 0.15, 0.05]),
        (dict(top_k=3, top_p=0.6), [0.625, 0.375, 0, 0]),
    ):
        assert next_probabilities(logits, **options)[0].tolist() == pytest.approx(expected, abs=1e-6), options
    shuffled = logits[:, [2, 0, 3, 1]]
    assert next_probabilities(shuffled, top_k=2)[0].tolist() == pytest.approx([0, 0.625, 0, 0.375])
    assert next_probabilities(torch.zeros(1, 4), top_k=2)[0].tolist() == [0.5, 0.5, 0, 0], "ties do not let more tokens in"


def test_what_is_drawn_follows_the_probabilities():
    logits = torch.tensor([0.6, 0.3, 0.1, 0.0]).log().expand(20_000, 4)
    drawn = choose(logits, temperature=1.0, generator=torch.Generator().manual_seed(0))
    assert (drawn.bincount(minlength=4) / 20_000).tolist() == pytest.approx([0.6, 0.3, 0.1, 0.0], abs=0.015)
    assert (choose(logits, temperature=1.0, top_k=1) == 0).all() and (choose(logits) == 0).all()
    assert (choose(logits, temperature=1e-42) == 0).all(), "however low the temperature"


def test_sampled_texts_follow_the_models_own_probabilities():
    ids = prompts(1)
    with torch.no_grad():
        expected = next_probabilities(MODEL(ids)[:, -1], temperature=2.0, top_k=8, top_p=0.9)[0]
    drawn = generate(MODEL, ids.repeat(4000, 1), 1, temperature=2.0, top_k=8, top_p=0.9, seed=0)[:, -1]
    assert 2 <= (expected > 0).sum() <= 8
    assert (drawn.bincount(minlength=40) / 4000 - expected).abs().max() < 0.03
    assert (expected[drawn] > 0).all()


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(temperature=-1.0), "-1.0"),
        (dict(temperature=float("nan")), "nan"),
        (dict(top_p=0.0), "top_p"),
        (dict(top_p=1.5), "1.5"),
        (dict(top_k=0), "top_k"),
        (dict(max_new_tokens=-1), "-1"),
        (dict(max_new_tokens=2.5), "2.5"),
        (dict(top_k=1.5), "1.5"),
        (dict(top_k=2.0, temperature=1.0), "2.0"),
        (dict(top_k="2"), "'2'"),
        (dict(max_new_tokens="3"), "'3'"),
        (dict(eos_token_id=[3, "end"]), "'end'"),
        (dict(eos_token_id=3.5), "3.5"),
        (dict(ids=torch.ones(1, 3, dtype=torch.int16)), "ids.long()"),
        (dict(ids=[[1, 5], [7, 8]]), "got a list; torch.tensor(ids)"),
        (dict(ids=np.ones((1, 3), dtype=np.int64)), "got a ndarray; torch.tensor(ids)"),
        (dict(ids=torch.ones(1, 2, dtype=torch.long), mask=[[1, 1]]), "got a list; torch.tensor(mask)"),
        (dict(ids=torch.zeros(2, 3)), "float32"),
        (dict(ids=torch.full((1, 3), 40)), "0 to 39"),
        (dict(ids=torch.ones(1, 65, dtype=torch.long), max_new_tokens=1), "65 tokens"),
        (dict(max_new_tokens=60), "66 positions"),
        (dict(ids=torch.zeros(2, 0, dtype=torch.long)), "at least one token"),
        (dict(mask=torch.ones(3, 5, dtype=torch.bool)), "(3, 5)"),
        (dict(mask=torch.tensor([[1] * 6, [0] * 6, [1] * 6])), "prompt 1 is empty"),
    ],
)
def test_bad_input_is_refused(options, words):
    options = {"ids": prompts(), "max_new_tokens": 3, **options}
    with unchecked(), pytest.raises(ValueError) as error:
        generate(MODEL, **options)
    assert words in str(error.value)


class Protocol(torch.nn.Module):
    """The least that a model needs for writing: a config somewhere inside its own, ``new_cache``, and ``forward`` without extras."""

    def __init__(self, image_token_id):
        super().__init__()
        self.inner, self.image_token_id, self.seen = MODEL, image_token_id, []
        self.config = make_dataclass("Outer", [("language", object)])(MODEL.config)

    def new_cache(self):
        return self.inner.new_cache()

    def forward(self, ids, images=None, mask=None, cache=None):
        self.seen.append((ids.shape[1], images is not None))
        return self.inner(ids, mask, cache)


def test_a_model_needs_no_more_than_the_common_forward_and_gets_its_images_once():
    likeliest = int(generate(MODEL, prompts(1), 1)[0, -1])
    model = Protocol(image_token_id=likeliest)
    written = generate(model, prompts(1), 8, images=torch.zeros(1, 3, 4, 4))
    assert model.seen == [(6, True)] + [(1, False)] * 7
    assert (written[:, 6:] != likeliest).all(), "the id of an image is never written"
    assert torch.equal(written, generate(model, prompts(1), 8, images=torch.zeros(1, 3, 4, 4), use_cache=False))
    assert model.seen[8:] == [(6 + new, True) for new in range(8)]
    drawn = generate(model, prompts(3).repeat(20, 1), 8, temperature=3.0, seed=0)
    assert (drawn[:, 6:] != likeliest).all()
    with pytest.raises(ValueError, match="66 positions"):
        generate(model, prompts(), 60)


def test_each_new_column_is_told_as_it_comes():
    columns, end = [], int(generate(MODEL, prompts(), 20)[0, 9])
    written = generate(MODEL, prompts(), 20, eos_token_id=end, pad_token_id=39, on_token=columns.append)
    assert torch.equal(torch.stack(columns, dim=1), written[:, 6:])
    generate(MODEL, prompts(), 0, on_token=columns.append)
    assert len(columns) == written.shape[1] - 6


@pytest.mark.parametrize("use_cache", [True, False])
def test_several_rows_with_gaps_write_what_transformers_writes(tmp_path, use_cache):
    theirs, ours = pair(tmp_path)
    theirs.generation_config.eos_token_id = None
    ids, mask = ids_of(3, 9), torch.tensor([[1, 1, 0, 0, 1, 1, 1, 0, 1], [0, 1, 0, 1, 1, 0, 1, 1, 1], [1] * 9])
    expected = theirs.generate(ids, attention_mask=mask, max_new_tokens=12, do_sample=False, pad_token_id=0)
    assert torch.equal(generate(ours, ids, 12, mask=mask, use_cache=use_cache), expected)


def broken(value, dtype=torch.float32, name="blocks.1.mlp.up.weight"):
    model = LanguageModel(MODEL.config)
    model.load_state_dict(MODEL.state_dict())
    with torch.no_grad():
        model.get_parameter(name)[3, 5] = value
    return model.to(dtype)


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("use_cache", [True, False])
def test_logits_that_are_no_numbers_are_refused(temperature, use_cache):
    options = dict(temperature=temperature, use_cache=use_cache)
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"row 0 for new token 0 .*weights blocks.1.mlp.up.weight hold NaN"):
            generate(broken(value), prompts(), 3, **options)
    with pytest.raises(ValueError, match="numbers grew too large; the model computes in float16"):
        generate(broken(6e4, torch.float16, "tokens.weight").requires_grad_(False), torch.full((1, 4), 3), 3, **options)


class Masked(torch.nn.Module):
    """Logits of which some are -inf, or in the second row from the third new token on all."""

    def __init__(self, spoil):
        super().__init__()
        self.inner, self.image_token_id, self.config, self.spoil = MODEL, None, MODEL.config, spoil

    def new_cache(self):
        return self.inner.new_cache()

    def forward(self, ids, mask=None, cache=None):
        logits = self.inner(ids, mask, cache)
        logits[:, :, :20] = float("-inf")
        if self.spoil and cache.length >= 8:
            logits[1] = self.spoil
        return logits


def test_logits_of_minus_infinity_rule_tokens_out():
    for temperature in (0.0, 1.0):
        assert (generate(Masked(None), prompts(), 20, temperature=temperature)[:, 6:] >= 20).all()
    for value in (float("nan"), float("inf"), float("-inf")):
        with pytest.raises(ValueError, match="row 1 for new token 2 .* all weights are finite"):
            generate(Masked(value), prompts(), 20)
    written = generate(Masked(None), prompts(), 20)
    ends = [int(token) for token in written[1, 6:8]]
    assert generate(Masked(float("nan")), prompts(), 20, eos_token_id=ends[0]).shape[1] > 8, "a row that has ended may be anything"


@pytest.mark.parametrize("temperature", [1e-30, 1e-38, 1e-44, 1e-46, 5e-324])
def test_a_temperature_next_to_nothing_writes_what_greedy_writes(temperature):
    greedy = generate(MODEL, prompts(), 12)
    for options in ({}, dict(top_k=5), dict(top_p=0.9), dict(top_p=1e-46)):
        assert torch.equal(generate(MODEL, prompts(), 12, temperature=temperature, seed=0, **options), greedy)
    assert next_probabilities(torch.tensor([[1.0, 3.0, 2.0]]), temperature).tolist() == [[0, 1, 0]]
    assert next_probabilities(torch.tensor([[1.0, 3.0, 2.0]]), top_p=1e-46).tolist() == [[0, 1, 0]]
