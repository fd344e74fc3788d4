"""The tokenizer in a GGUF file, as the ``tokenizer.json`` and ``tokenizer_config.json`` that ``AutoTokenizer`` opens.

Read are byte-level BPE tokenizers that cut a text as SmolLM's does: every digit is a piece of its own, and around the digits as GPT-2.
transformers' own reading of such files leaves the digits out, and so joins the spaces before a number otherwise: "a  1" becomes four
tokens there, three here and in the published tokenizer.
"""

from typing import Any

from minimllm.weights.gguf import GGUFFile

CONTROL, USER_DEFINED = 3, 4  # types of tokens that are found in a text before anything is cut
SPECIAL = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


def tokenizer_values(file: GGUFFile) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values of ``tokenizer.json`` and of ``tokenizer_config.json``, with the chat template where the file has one.

    Raises:
        ValueError: a tokenizer of another kind, or one that is not complete; the message names the key.
    """
    for key, only in (("model", "gpt2"), ("pre", "smollm"), ("add_bos_token", False), ("add_eos_token", False)):
        value = file.values.get(f"tokenizer.ggml.{key}", only if isinstance(only, bool) else None)
        if value != only:
            raise ValueError(f"{file.path} has tokenizer.ggml.{key} = {value!r}; only {only!r} is implemented")
    tokens, types, merges = (listed(file, f"tokenizer.ggml.{name}") for name in ("tokens", "token_type", "merges"))
    if len(types) != len(tokens) or len(set(tokens)) != len(tokens):
        raise ValueError(f"{file.path} has {len(types)} token types for {len(tokens)} tokens, {len(set(tokens))} of them distinct")
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [
        {"id": index, "content": tokens[index], **plain, "special": kind == CONTROL}
        for index, kind in enumerate(types)
        if kind in (CONTROL, USER_DEFINED)
    ]
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": bool(file.values.get("tokenizer.ggml.add_space_prefix", False)),
        "trim_offsets": True,
        "use_regex": True,
    }
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in merges],
        },
    }
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": file.values.get("llama.context_length"),
        "clean_up_tokenization_spaces": False,
    }
    for name, key in SPECIAL.items():
        if (index := file.values.get(f"tokenizer.ggml.{key}_token_id")) is not None:
            if type(index) is not int or not 0 <= index < len(tokens):
                raise ValueError(f"{file.path} has tokenizer.ggml.{key}_token_id = {index!r}, and {len(tokens)} tokens")
            config[name] = tokens[index]
    if "tokenizer.chat_template" in file.values:
        config["chat_template"] = file.values["tokenizer.chat_template"]
    return tokenizer, config


def listed(file: GGUFFile, key: str) -> list[Any]:
    value = file.values.get(key)
    if not isinstance(value, list):
        raise ValueError(f"{file.path} has {'no' if value is None else 'no list'} {key}, so that no tokenizer can be made of it")
    return value
