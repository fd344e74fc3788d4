"""The tokenizer: a token a word, unknown words named, and the same file for other libraries."""

import json

import pytest
import torch
from support import unchecked
from transformers import PreTrainedTokenizerFast

from minimllm import Tokenizer
from minimllm.data.tokenizer import SPECIAL_TOKENS
from minimllm.data.words import COLOURS, SHAPES, WORDS

VOCABULARY = [*dict.fromkeys([*WORDS, "."])]
TOKENIZER = Tokenizer.from_words(VOCABULARY)


def test_ids_and_mask():
    ids, mask = TOKENIZER(["A red star.", "where is the red star?"])
    assert [TOKENIZER.words[number] for number in ids[0]] == ["<start>", "a", "red", "star", ".", "<end>", "<pad>", "<pad>"]
    assert [TOKENIZER.words[number] for number in ids[1]] == ["<start>", "where", "is", "the", "red", "star", "?", "<end>"]
    assert mask.dtype == torch.bool and ids.dtype == torch.long and torch.equal(mask, ids != TOKENIZER.pad_token_id)
    assert torch.equal(TOKENIZER("a red star.")[0], ids[:1, :6]), "one text alone is a batch of one"
    assert torch.equal(TOKENIZER(["a red star."], start=False, end=False)[0], ids[:1, 1:5])
    assert TOKENIZER([""])[0].tolist() == [[TOKENIZER.start_token_id, TOKENIZER.eos_token_id]]


def test_special_tokens():
    assert TOKENIZER.words[:5] == list(SPECIAL_TOKENS)
    assert TOKENIZER.vocab_size == 5 + len(VOCABULARY) == len(set(TOKENIZER.words))
    assert TOKENIZER.eos_token_id != 2, "2 would make a CLIP text encoder pool at the highest id"
    assert TOKENIZER.image_token_id != 0
    ids, _ = TOKENIZER(["what is <|image|> ?", "<|image|><|image|> and <|image|>"])
    assert (ids == TOKENIZER.image_token_id).sum(1).tolist() == [1, 3]


def test_texts_survive_the_way_there_and_back():
    texts = ["a large red circle at the top left, and a small star.", "is there a ring?", "an orange heart", ""]
    assert TOKENIZER.decode(TOKENIZER(texts)[0]) == texts
    assert TOKENIZER.decode(TOKENIZER(["  A   Red\tStar ?"])[0]) == ["a red star?"]


def test_every_word_of_the_world_is_one_token():
    assert TOKENIZER([" ".join(WORDS[:40]), " ".join(WORDS[40:])])[1].sum() == len(WORDS) + 4
    assert len({TOKENIZER(f"{colour} {shape}")[0].numpy().tobytes() for colour in COLOURS for shape in SHAPES}) == 64


def test_a_vocabulary_from_texts():
    tokenizer = Tokenizer.from_texts(["A photo of the digit seven.", "the digit: 3"], context_length=9)
    assert tokenizer.words[5:] == [".", "3", ":", "a", "digit", "of", "photo", "seven", "the"]
    assert tokenizer.context_length == 9
    assert Tokenizer.from_texts(iter(["b a", "a c"])).words == Tokenizer.from_texts(["c", "a b"]).words


@pytest.mark.parametrize(
    "text,message",
    [
        ("a red sqare", "'sqare' of 'a red sqare'; did you mean 'square'"),
        ("a Purpel star", "'Purpel'.*'purple'"),
        ("a red zebra at the top", "'zebra'"),
        ("qqqq", "'qqqq'.*it knows"),
        ("a <unknown> star", "'<unknown>'"),
        ("étoile", "'étoile'"),
        ("red-star", "'-'"),
        ("red " * 76, "78 tokens, and at most 77"),
    ],
)
def test_what_it_cannot_read_is_named(text, message):
    with pytest.raises(ValueError, match=message):
        TOKENIZER(["a star", text])
    TOKENIZER(["red " * 75])


@pytest.mark.parametrize("texts", [[], [None], ["a star", 3]])
def test_what_is_no_text_is_refused(texts):
    with unchecked(), pytest.raises(ValueError, match="list of texts"):
        TOKENIZER(texts)


def test_saved_and_loaded(tmp_path):
    path = tmp_path / "tokenizer.json"
    Tokenizer.from_words(VOCABULARY, context_length=20).save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["tokenizer.json"]
    loaded = Tokenizer.load(str(path))
    texts = ["is there a large red star?", "a ring"]
    assert all(torch.equal(a, b) for a, b in zip(loaded(texts), TOKENIZER(texts), strict=True))
    assert loaded.words == TOKENIZER.words and loaded.context_length == 20
    with pytest.raises(ValueError, match="at most 20"):
        loaded(["red " * 30])
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(path), pad_token="<pad>")(texts, padding=True, return_tensors="pt")
    assert torch.equal(theirs["input_ids"], TOKENIZER(texts)[0]) and torch.equal(theirs["attention_mask"].bool(), TOKENIZER(texts)[1])


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(ValueError, match="no tokenizer file '.*tokenizer.json'"):
        Tokenizer.load(path)
    TOKENIZER.save(path)
    whole = path.read_text()
    other = json.loads(whole) | {"model": {"type": "BPE", "vocab": {}, "merges": []}, "added_tokens": []}
    for content in (whole[:100], "{}", json.dumps(other)):
        path.write_text(content)
        with pytest.raises(ValueError, match="tokenizer.json' is no tokenizer file of ours"):
            Tokenizer.load(path)


def test_both_ways_to_write_an_accent_are_one_word():
    composed, apart = "caf\u00e9", "cafe\u0301"
    for words in ([composed], [apart], [composed, apart], [apart.upper()]):
        tokenizer = Tokenizer.from_words(words)
        assert tokenizer.words[5:] == [composed]
        for text in (composed, apart, apart.upper(), composed.upper()):
            assert tokenizer(text)[0].tolist() == [[1, 5, 3]] and tokenizer.decode(tokenizer(text)[0]) == [composed]
    assert Tokenizer.from_texts([f"a {apart}", f"the {composed}"]).words[5:] == ["a", composed, "the"]
    with pytest.raises(ValueError, match="does not know the word 'cafe' .* did you mean 'caf\u00e9'"):
        Tokenizer.from_words([composed])("cafe")
