"""What goes in by mistake at the entrances of the floor: another kind of model, another tokenizer, numbers that count nothing."""

import numpy as np
import pytest
import torch
from support import unchecked

from minimllm import CLIP, CLIPConfig, LanguageModel, LanguageModelConfig, Tokenizer, ViT, ViTConfig, answer, chat, generate, zero_shot

WORDS = Tokenizer.from_words(["what", "is", "it", "a", "star"])
MODEL = LanguageModel(LanguageModelConfig.tiny(WORDS.vocab_size))
EYES = ViT(ViTConfig.tiny())
IDS = torch.tensor([[1, 5, 6], [1, 7, 5]])


class Foreign:
    """A tokenizer that is not the course's."""

    chat_template, eos_token_id = "{{ messages }}", 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: answer(EYES, WORDS, None, ["what is it"]), "a ViT writes no text"),
        (lambda: generate(EYES, IDS, 3), "a ViT writes no text"),
        (lambda: chat(EYES, Foreign(), [{"role": "user", "content": "what"}]), "a ViT writes no text"),
        (lambda: answer(MODEL, Foreign(), None, ["what is it"]), "course's own Tokenizer, got a Foreign; minimllm.chat"),
        (lambda: answer(MODEL, WORDS, None, ["what is it"], batch_size=0), "batch_size must be 1 or more, got 0"),
        (lambda: zero_shot(MODEL, WORDS, torch.rand(1, 3, 8, 12), ["star"]), "a LanguageModel has no text encoder"),
        (lambda: zero_shot(CLIP(CLIPConfig.tiny()), WORDS, torch.rand(1, 3, 8, 12), [1, 2]), r"classes are names.*\[1, 2\]"),
        (lambda: zero_shot(CLIP(CLIPConfig.tiny()), WORDS, torch.rand(1, 3, 8, 12), ["star"], batch_size=0), "got 0"),
    ],
)
def test_mistakes_are_told(call, message):
    with pytest.raises(ValueError, match=message), unchecked():
        call()


def test_end_tokens_come_in_any_form():
    first = generate(MODEL, IDS, 6, eos_token_id=None)[:, 3:]
    ends = [int(first[0, 2]), int(first[1, 4])]
    wanted = generate(MODEL, IDS, 6, eos_token_id=ends)
    for form in (tuple(ends), set(ends), torch.tensor(ends), np.array(ends), iter(ends)):
        assert torch.equal(generate(MODEL, IDS, 6, eos_token_id=form), wanted)
    one = generate(MODEL, IDS, 6, eos_token_id=ends[0])
    for form in (np.int64(ends[0]), torch.tensor(ends[0])):
        assert torch.equal(generate(MODEL, IDS, 6, eos_token_id=form), one)


def test_what_is_said_of_numbers_that_are_none_fits_the_cause():
    broken = LanguageModel(LanguageModelConfig.tiny(WORDS.vocab_size))
    broken.blocks[0].mlp.down.weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="blocks.0.mlp.down.weight hold NaN or infinity.*load the file again") as told:
        generate(broken, IDS, 2)
    assert "float16" not in str(told.value)
