"""GGUF files of small Llamas beside transformers, and all the ways in which such a file can be wrong."""

import random
import struct

import numpy as np
import pytest
import tiny_gguf
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from support import largest_difference, randomise
from tiny_gguf import HEAD_DIM, llama_factors, numbers, reference, write
from transformers import AutoModelForCausalLM

from minimllm import GGUFFile, LanguageModel, RotaryScaling, dequantise_q4_1, rotary_frequencies, undo_permutation
from minimllm.weights.gguf import TYPES
from minimllm.weights.gguf_llama import scaling_of_factors

IDS = torch.tensor([[5, 1, 299, 0, 17, 332, 5, 5, 8], [2, 3, 4, 5, 6, 7, 331, 30, 0]])


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> bytes:
    """A small file with tensors of four types, padding between them, and every kind of value."""
    values = {"a.flag": True, "a.text": "é🦓", "a.list": [1, 2, 3], "a.words": ["a", "", "bc"], "a.numbers": [0.5, -1.5]}
    kinds = {"output.weight": "Q8_0", "blk.1.ffn_up.weight": "Q4_0", "blk.0.attn_q.weight": "BF16"}
    path = write(tmp_path_factory.mktemp("gguf") / "good.gguf", numbers(), "Q4_1", values, kinds=kinds)
    return path.read_bytes()


def put(folder, data: bytes):
    path = folder / "a.gguf"
    path.write_bytes(data)
    return path


# --- the numbers ---


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", TYPES)
def test_every_type_gives_the_logits_of_transformers(tmp_path, kind, tied):
    tensors = numbers(tied)
    model = LanguageModel.from_gguf(write(tmp_path / "a.gguf", tensors, kind))
    theirs = reference(tensors, kind)
    assert not model.training and model.config.tied == tied and model.tokens.weight.dtype == torch.float32
    assert torch.equal(model.blocks[1].attention.key.weight, theirs.model.layers[1].self_attn.k_proj.weight)
    with torch.no_grad():
        assert largest_difference(model(IDS), theirs(IDS).logits) < 2e-5


def test_the_file_says_all_of_the_config(tmp_path):
    values = {"tokenizer.ggml.eot_token_id": 7, "llama.attention.layer_norm_rms_epsilon": 0.25}
    config = LanguageModel.from_gguf(write(tmp_path / "a.gguf", numbers(), values=values)).config
    assert (config.dim, config.heads, config.key_value_heads, config.head_dim) == (96, 6, 2, 32)
    assert (config.vocab_size, config.layers, config.mlp_dim, config.context_length) == (333, 2, 160, 128)
    assert (config.norm_eps, config.rotary_base, config.rotary_scaling) == (0.25, 500.0, None)
    assert (config.start_token_id, config.pad_token_id) == (1, 2)


def test_as_transformers_reads_the_same_file(tmp_path):
    write(tmp_path / "a.gguf", numbers(tied=True), "Q4_1", {"llama.vocab_size": 333})
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="a.gguf").eval()
    with torch.no_grad():
        assert largest_difference(LanguageModel.from_gguf(tmp_path / "a.gguf")(IDS), theirs(IDS).logits) < 2e-5


def test_heads_and_positions_have_their_defaults(tmp_path):
    """Left out: as many key and value heads as query heads, a base of 10,000, heads of dim / heads; all of them llama.cpp's defaults."""
    tensors = numbers(tied=True)
    for name in list(tensors):
        if name.split(".")[-2] in ("attn_q", "attn_k", "attn_v"):
            tensors[name] = np.random.RandomState(len(name)).standard_normal((96, 96)).astype(np.float32)
        if name.endswith("attn_output.weight"):
            tensors[name] = tensors[name][:, :96].copy()
    left_out = dict.fromkeys(("llama.attention.head_count_kv", "llama.rope.freq_base", "llama.rope.dimension_count"))
    left_out |= dict.fromkeys(key for key in tiny_gguf.VALUES if key.startswith("tokenizer"))
    path = write(tmp_path / "a.gguf", tensors, values={**left_out, "llama.attention.head_count": 3})
    config = LanguageModel.from_gguf(path).config
    assert (config.heads, config.key_value_heads, config.head_dim, config.rotary_base) == (3, 3, 32, 10_000.0)
    assert (config.start_token_id, config.eos_token_id, config.pad_token_id) == (None, None, None)


def test_types_may_be_mixed_and_tensors_lie_in_any_order(tmp_path, good):
    kinds = {"output.weight": "Q8_0", "blk.1.ffn_up.weight": "Q4_0", "blk.0.attn_q.weight": "BF16"}
    mixed = LanguageModel.from_gguf(put(tmp_path, good)).state_dict()
    for options in (dict(reverse=True), dict(alignment=128), dict(alignment=64, reverse=True)):
        other = LanguageModel.from_gguf(write(tmp_path / "b.gguf", numbers(), "Q4_1", kinds=kinds, **options)).state_dict()
        assert all(torch.equal(value, other[name]) for name, value in mixed.items())
    older = LanguageModel.from_gguf(put(tmp_path, good[:4] + struct.pack("<I", 2) + good[8:])).state_dict()
    assert all(torch.equal(value, older[name]) for name, value in mixed.items())


def test_dtype_is_chosen_and_the_file_only_read(tmp_path, good):
    path = put(tmp_path, good)
    model = LanguageModel.from_gguf(str(path), dtype=torch.bfloat16)
    full = LanguageModel.from_gguf(path)
    assert torch.equal(model.blocks[0].mlp.down.weight, full.blocks[0].mlp.down.weight.bfloat16())
    randomise(full)
    assert path.read_bytes() == good
    with pytest.raises(ValueError, match="int64"):
        LanguageModel.from_gguf(path, dtype=torch.int64)


def test_values_are_read_as_they_were_written(tmp_path, good):
    file = GGUFFile(put(tmp_path, good))
    kept = {key: file.values[key] for key in ("a.flag", "a.text", "a.list", "a.words", "a.numbers", "general.architecture")}
    assert kept == {
        "a.flag": True,
        "a.text": "é🦓",
        "a.list": [1, 2, 3],
        "a.words": ["a", "", "bc"],
        "a.numbers": [0.5, -1.5],
        "general.architecture": "llama",
    }
    assert file.values["a.flag"] is True and file.tensors["blk.0.ffn_down.weight"].shape == (96, 160)


# --- a block, a permutation, a scaling ---


def test_block_by_hand():
    block = bytes.fromhex("0038 00bc 51" + "00" * 15)  # scale 0.5, minimum -1; number 0 is 1, number 16 is 5
    opened = dequantise_q4_1(block)
    assert opened[0] == -0.5 and opened[16] == 1.5 and (opened[[*range(1, 16), *range(17, 32)]] == -1).all()
    rows = np.random.RandomState(0).standard_normal((3, 64)).astype(np.float32)
    packed = quantize(rows, GGMLQuantizationType.Q4_1)
    theirs = dequantize(packed, GGMLQuantizationType.Q4_1).reshape(6, 32)
    assert all(
        torch.equal(dequantise_q4_1(part.tobytes()), torch.from_numpy(row)) for part, row in zip(packed.reshape(6, 20), theirs, strict=True)
    )
    with pytest.raises(ValueError, match="20 bytes, got 18"):
        dequantise_q4_1(bytes(18))


def test_permutation_is_undone_head_by_head():
    file = torch.tensor([0, 3, 1, 4, 2, 5])
    assert undo_permutation(file[:, None], 1).flatten().tolist() == [0, 1, 2, 3, 4, 5]
    assert undo_permutation(torch.cat([file, file + 6])[:, None], 2).flatten().tolist() == list(range(12))
    rows = torch.arange(60.0).reshape(20, 3)
    assert torch.equal(undo_permutation(torch.from_numpy(tiny_gguf.permuted(rows.numpy(), 2)), 2), rows)
    for heads in (0, 3, 4):
        with pytest.raises(ValueError, match=f"20 rows do not divide into {heads} heads"):
            undo_permutation(rows, heads)


@pytest.mark.parametrize(
    "head_dim, scaling", [(64, RotaryScaling(32.0)), (128, RotaryScaling()), (64, RotaryScaling(16.0, 1.0, 3.5, 4096))]
)
def test_scaling_of_llama_comes_back_exactly(head_dim, scaling):
    """The tensors of Llama 3.2 1B, of Llama 3.1 8B, and of another that is scaled likewise."""
    options = (scaling.factor, scaling.low_frequency_factor, scaling.high_frequency_factor, scaling.original_length)
    factors = torch.from_numpy(llama_factors(head_dim, 500_000.0, *options))
    assert scaling_of_factors(factors, 500_000.0) == scaling
    assert scaling_of_factors(torch.ones(head_dim // 2), 500_000.0) is None


def test_any_scaling_of_the_kind_gives_its_frequencies():
    """Few pairs, none or one of them between the ends, lengths beyond all wavelengths: the frequencies count, not the options."""
    draw = random.Random(0)
    for _ in range(300):
        head_dim, base = draw.choice([4, 6, 8, 16, 64, 128]), draw.choice([100.0, 1e4, 5e5])
        low = draw.choice([0.5, 1.0, 2.0])
        options = (draw.choice([2.0, 7.3, 32.0]), low, low * draw.choice([1.01, 1.5, 4.0, 9.0]), draw.choice([16, 100, 2048, 8192, 10**5]))
        factors = torch.from_numpy(llama_factors(head_dim, base, *options))
        scaling = scaling_of_factors(factors, base)
        ours = rotary_frequencies(head_dim, base) / rotary_frequencies(head_dim, base, scaling)
        torch.testing.assert_close(ours, factors, rtol=2e-5, atol=0)


def test_scaled_positions_give_the_logits_of_transformers(tmp_path):
    options = (8.0, 1.0, 4.0, 64)
    tensors = numbers(tied=True)
    factors = {"rope_freqs.weight": llama_factors(HEAD_DIM, 500.0, *options)}
    names = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    theirs = reference(tensors, rope={"rope_type": "llama3", **dict(zip(names, options, strict=True))})
    path = tmp_path / "a.gguf"
    model = LanguageModel.from_gguf(write(path, tensors | factors, kinds={"rope_freqs.weight": "F32"}))
    ids = torch.randint(0, 333, (1, 120), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs(ids).logits
        assert largest_difference(model(ids), expected) < 3e-5
        assert largest_difference(LanguageModel.from_gguf(write(path, tensors))(ids), expected) > 1e-2
    model.save_pretrained(tmp_path / "folder")
    assert LanguageModel.from_pretrained(tmp_path / "folder").config == model.config


@pytest.mark.parametrize(
    "factors",
    [
        [1] * 7 + [0.5] + [8] * 8,
        [1] * 7 + [8, 1] + [8] * 7,
        [1] * 5 + [2, 7, 3] + [8] * 8,
        [2] * 16,
        [1] * 15 + [float("nan")],
        [1, 8],
    ],
)
def test_factors_of_no_known_scaling_are_refused(tmp_path, factors):
    path = write(tmp_path / "a.gguf", numbers() | {"rope_freqs.weight": np.array(factors, dtype=np.float32)})
    with pytest.raises(ValueError, match="a.gguf: (tensor )?rope_freqs.weight h"):
        LanguageModel.from_gguf(path)


# --- what is wrong is named ---


@pytest.mark.parametrize(
    "values, message",
    [
        ({"general.architecture": "qwen2"}, "general.architecture = 'qwen2', expected 'llama'"),
        ({"llama.expert_count": 8}, "llama.expert_count = 8"),
        ({"llama.rope.scaling.type": "yarn"}, "llama.rope.scaling.type = 'yarn'"),
        ({"llama.attention.sliding_window": 4096}, "llama.attention.sliding_window = 4096"),
        ({"llama.attention.head_count": 0}, "llama.attention.head_count = 0"),
        ({"llama.attention.head_count": [6, 6]}, r"llama.attention.head_count = \[6, 6\]"),
        ({"llama.attention.head_count_kv": 4}, "head_count_kv = 4, which does not divide llama.attention.head_count = 6"),
        ({"llama.attention.head_count_kv": 3}, r"blk.0.attn_k.weight has shape \(64, 96\), expected \(96, 96\)"),
        ({"llama.embedding_length": 94}, "token_embd.weight has shape"),
        ({"llama.rope.dimension_count": 15}, "dimension_count = 15"),
        ({"llama.rope.dimension_count": 8, "llama.attention.key_length": 32}, "dimension_count = 8 and heads of width 32"),
        ({"llama.attention.value_length": 8}, "value_length = 8 and heads of width 32"),
        ({"llama.block_count": 3}, "9 missing: blk.2.attn_norm.weight"),
        ({"llama.block_count": 1}, "9 unexpected: blk.1.attn_norm.weight"),
        ({"llama.block_count": 2**32 - 1}, "llama.block_count = 4294967295, and 21 tensors"),
        ({"llama.vocab_size": 334}, r"token_embd.weight has shape \(333, 96\), expected \(334, 96\)"),
        ({"llama.rope.freq_base": 0.0}, "llama.rope.freq_base = 0.0"),
        ({"llama.attention.layer_norm_rms_epsilon": float("nan")}, "layer_norm_rms_epsilon = nan"),
        ({"tokenizer.ggml.eos_token_id": "0"}, "eos_token_id = '0'"),
        ({"general.alignment": 48}, "general.alignment = 48"),
    ],
)
def test_values_that_are_not_understood_are_named(tmp_path, values, message):
    path = write(tmp_path / "a.gguf", numbers(), values=values)
    with pytest.raises(ValueError, match=message) as caught:
        LanguageModel.from_gguf(path)
    assert "a.gguf" in str(caught.value)


REQUIRED = [
    key for key in tiny_gguf.VALUES if key.startswith("llama") and not key.endswith(("head_count_kv", "freq_base", "dimension_count"))
]


@pytest.mark.parametrize("key", REQUIRED)
def test_each_missing_value_is_named(tmp_path, key):
    with pytest.raises(ValueError, match=f"a.gguf has no {key}"):
        LanguageModel.from_gguf(write(tmp_path / "a.gguf", numbers(), values={key: None}))


def test_each_tensor_missing_added_or_misshapen_is_named(tmp_path):
    tensors = numbers()
    for name in tensors:
        if name != "output.weight":  # which says that the head is not tied
            rest = {other: array for other, array in tensors.items() if other != name}
            with pytest.raises(ValueError, match=f"1 missing: {name}; 0 unexpected"):
                LanguageModel.from_gguf(write(tmp_path / "a.gguf", rest))
        longer = np.concatenate([tensors[name], tensors[name]])
        with pytest.raises(ValueError, match=f"{name} has shape"):
            LanguageModel.from_gguf(write(tmp_path / "a.gguf", tensors | {name: longer}, values={"llama.vocab_size": 333}))
    for name in ("blk.0.attn_q.bias", "blk.0.ffn_gate_exps.weight", "blk.2.attn_norm.weight", "token_embd_norm.weight"):
        with pytest.raises(ValueError, match=f"0 missing; 1 unexpected: {name}"):
            LanguageModel.from_gguf(write(tmp_path / "a.gguf", tensors | {name: np.ones(96, dtype=np.float32)}))


def test_other_types_are_named_with_their_tensor(tmp_path, good):
    place = good.index(b"blk.1.ffn_up.weight") + len("blk.1.ffn_up.weight") + 4 + 16
    assert good[place : place + 4] == struct.pack("<I", GGMLQuantizationType.Q4_0)
    for number, name in ((GGMLQuantizationType.Q6_K, "Q6_K"), (GGMLQuantizationType.F64, "F64"), (999, "number 999")):
        with pytest.raises(ValueError, match=f"a.gguf: tensor blk.1.ffn_up.weight is of type {name}, which is not read"):
            GGUFFile(put(tmp_path, good[:place] + struct.pack("<I", number) + good[place + 4 :]))


def test_another_kind_of_file_is_named(tmp_path, good):
    for data, message in (
        (b"", "cannot be read"),
        (b"PK\x03\x04" + good[4:], "is no GGUF file: it starts with b'PK"),
        (good[:4] + struct.pack("<I", 1) + good[8:], "with version 1"),
        (good[:4] + struct.pack(">I", 3) + good[8:], "other byte order"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            GGUFFile(put(tmp_path, data))
        assert "a.gguf" in str(caught.value)
    with pytest.raises(ValueError, match="absent.gguf cannot be read"):
        LanguageModel.from_gguf(tmp_path / "absent.gguf")
    with pytest.raises(ValueError, match="cannot be read"):
        LanguageModel.from_gguf(tmp_path)


def test_a_file_cut_anywhere_is_refused(tmp_path, good):
    file = GGUFFile(put(tmp_path, good))
    places = sorted(file.tensors.values(), key=lambda place: place.start)
    end = places[-1].start + places[-1].size
    cuts = {
        *range(0, 64),
        *range(64, places[0].start, 61),
        *(place.start for place in places),
        *(place.start + 1 for place in places),
        end - 1,
    }
    for cut in cuts:
        with pytest.raises(ValueError, match="a.gguf (is cut short|cannot be read|is no GGUF)"):
            LanguageModel.from_gguf(put(tmp_path, good[:cut]))
    LanguageModel.from_gguf(put(tmp_path, good[:end]))  # the padding after the last tensor may be missing
    name = next(name for name, place in file.tensors.items() if place == places[3])
    with pytest.raises(ValueError, match=f"is cut short: tensor {name} ends"):
        GGUFFile(put(tmp_path, good[: places[3].start + places[3].size - 1]))


def test_damage_of_the_header_is_refused_or_harmless_and_never_hangs(tmp_path, good):
    """Every byte of the header can be any other: a ValueError, or a file that reads on; no other error, no endless list."""
    draw, end = random.Random(1), min(place.start for place in GGUFFile(put(tmp_path, good)).tensors.values())
    for _ in range(150):
        damaged = bytearray(good)
        for _ in range(draw.choice([1, 1, 8])):
            damaged[draw.randrange(4, end)] = draw.choice([0, 1, 127, 255, draw.randrange(256)])
        try:
            LanguageModel.from_gguf(put(tmp_path, bytes(damaged)))
        except ValueError as error:
            assert "a.gguf" in str(error) or "config.json" in str(error)


def test_things_that_are_there_twice_are_refused(tmp_path, good):
    with pytest.raises(ValueError, match="the key a.list twice"):
        GGUFFile(put(tmp_path, good.replace(b"a.flag", b"a.list")))
    with pytest.raises(ValueError, match="blk.0.ffn_gate.weight is listed twice"):
        GGUFFile(put(tmp_path, good.replace(b"blk.1.ffn_gate.weight", b"blk.0.ffn_gate.weight")))
    place = good.index(b"blk.1.ffn_gate.weight") + len("blk.1.ffn_gate.weight") + 4 + 16 + 4
    with pytest.raises(ValueError, match="starts at byte .* inside of another"):
        GGUFFile(put(tmp_path, good[:place] + struct.pack("<Q", 0) + good[place + 8 :]))
