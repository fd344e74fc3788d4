"""The decoder: equal to transformers' Llama, and true to its own promises."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from support import CACHE, largest_difference, randomise, unchecked
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding

from minimllm import LanguageModel, LanguageModelConfig, load
from minimllm.layers import norms
from minimllm.layers.norms import RMSNorm
from minimllm.layers.rotary import RotaryScaling, RotaryTable, rotary_angles, rotary_frequencies
from minimllm.models.language_model import LLAMA_NAMES
from minimllm.models.shipped import save
from minimllm.weights.pretrained import file_names

SIZES = dict(
    vocab_size=99,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
)
LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
VARIANTS = {
    "as many key heads as query heads": dict(num_key_value_heads=4),
    "grouped queries": {},
    "one key head": dict(num_key_value_heads=1),
    "tied": dict(tie_word_embeddings=True),
    "scaled rotary": dict(rope_parameters=LLAMA_3),
    "another base": dict(rope_parameters={"rope_type": "default", "rope_theta": 500_000.0}),
    "wide heads": dict(head_dim=16),
    "another epsilon": dict(rms_norm_eps=1e-2),
}


def pair(folder, dtype=None, **changes):
    """Theirs with random weights, saved, and ours loaded from the folder."""
    theirs = randomise(LlamaForCausalLM(LlamaConfig(**{**SIZES, **changes})))
    theirs.save_pretrained(folder)
    return theirs, LanguageModel.from_pretrained(folder, dtype)


def ids_of(batch=2, length=20, seed=0):
    return torch.randint(4, 99, (batch, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_equal_those_of_transformers(tmp_path, variant):
    theirs, ours = pair(tmp_path, **VARIANTS[variant])
    ids = ids_of(length=40)
    with torch.no_grad():
        expected = theirs(ids).logits
        close = 1e-5 * max(1.0, expected.abs().max().item())  # rounding is a share of the numbers, and differs between processors
        assert largest_difference(ours(ids), expected) < close
        assert largest_difference(ours(ids, only_last=True), expected[:, -1:]) < close


@pytest.mark.parametrize("side", ["left", "right", "both", "gaps"])
def test_padding_equals_that_of_transformers_and_changes_nothing(tmp_path, side):
    theirs, ours = pair(tmp_path, rope_parameters=LLAMA_3)
    ids, mask = ids_of(3, 12), torch.ones(3, 12, dtype=torch.long)
    if side in ("left", "both"):
        mask[1, :5] = 0
    if side in ("right", "both"):
        mask[1, 9:], mask[2, 3:] = 0, 0
    if side == "gaps":
        mask[0, 4:6], mask[1, [0, 7]] = 0, 0
    with torch.no_grad():
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)  # as in their generate; their forward counts padding
        got, expected = ours(ids, mask), theirs(ids, attention_mask=mask, position_ids=positions).logits
        assert got.isfinite().all()
        assert largest_difference(got[mask.bool()], expected[mask.bool()]) < 1e-5
        assert largest_difference(ours(ids, mask.bool()), got) == 0
        changed = ids.masked_fill(mask == 0, 50)
        assert largest_difference(ours(changed, mask)[mask.bool()], got[mask.bool()]) == 0, "what stands under padding does not matter"
        for row in range(3):
            alone = ours(ids[row : row + 1, mask[row].bool()])[0]
            assert largest_difference(got[row, mask[row].bool()], alone) < 1e-5


def test_positions_with_gaps_equal_those_of_transformers(tmp_path):
    theirs, ours = pair(tmp_path)
    ids = ids_of(2, 8)
    positions = torch.tensor([[0, 1, 2, 10, 11, 40, 41, 60], [3, 4, 5, 6, 7, 8, 30, 31]])
    with torch.no_grad():
        got = ours.logits(ours.decode(ours.tokens(ids), positions=positions))
        assert largest_difference(got, theirs(ids, position_ids=positions).logits) < 1e-5
        shifted = ours.logits(ours.decode(ours.tokens(ids), positions=positions + 7))
        assert largest_difference(got, shifted) < 1e-5, "only differences of positions matter"


@pytest.mark.parametrize("side", [None, "left", "right"])
@pytest.mark.parametrize("chunks", [[12], [1] * 12, [5, 1, 4, 2]])
def test_the_cache_changes_nothing_in_chunks_of_any_size(tmp_path, side, chunks):
    _, ours = pair(tmp_path, rope_parameters=LLAMA_3)
    ids, mask = ids_of(2, 12), torch.ones(2, 12, dtype=torch.bool)
    if side:
        mask[1, slice(0, 4) if side == "left" else slice(8, 12)] = False
    cache = ours.new_cache()
    with torch.no_grad():
        parts = [
            ours(i, None if side is None else m, cache) for i, m in zip(ids.split(chunks, dim=1), mask.split(chunks, dim=1), strict=True)
        ]
        assert largest_difference(torch.cat(parts, 1)[mask], ours(ids, mask)[mask]) < 1e-5
    assert cache.length == 12
    assert cache.bytes() == 2 * 3 * 2 * 2 * 12 * 8 * 4, "two, layers, batch, key heads, length, width of a head, bytes of a float"


def test_cached_steps_equal_those_of_transformers(tmp_path):
    theirs, ours = pair(tmp_path)
    ids, cache, past = ids_of(2, 10), ours.new_cache(), None
    with torch.no_grad():
        for part in ids.split([6, 1, 1, 2], dim=1):
            answer = theirs(part, use_cache=True, **{CACHE: past})
            past = answer[CACHE]
            assert largest_difference(ours(part, cache=cache), answer.logits) < 1e-5


@pytest.mark.parametrize("variant", ["grouped queries", "tied", "scaled rotary"])
def test_loss_and_all_gradients_equal_those_of_transformers(tmp_path, variant):
    theirs, ours = pair(tmp_path, **VARIANTS[variant])
    ids, mask = ids_of(2, 12), torch.ones(2, 12, dtype=torch.long)
    mask[1, 8:] = 0
    loss = theirs(ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)).loss
    loss.backward()
    targets = ids.masked_fill(mask == 0, -100)[:, 1:]
    own = torch.nn.functional.cross_entropy(ours(ids, mask)[:, :-1].flatten(0, 1), targets.flatten())
    own.backward()
    assert own.item() == pytest.approx(loss.item(), abs=1e-5)
    for name, parameter in ours.named_parameters():
        gradient = theirs.get_parameter(file_names(name, LLAMA_NAMES)[0]).grad
        assert largest_difference(parameter.grad, gradient) < 1e-4 * gradient.abs().max(), name


@pytest.mark.parametrize("side", ["left", "right"])
def test_cached_chunks_with_padding_equal_transformers_read_at_once(tmp_path, side):
    theirs, ours = pair(tmp_path, rope_parameters=LLAMA_3)
    ids, mask, cache = ids_of(3, 100), torch.ones(3, 100, dtype=torch.long), ours.new_cache()
    mask[1, slice(0, 60) if side == "left" else slice(40, 100)] = 0
    mask[2, slice(0, 7) if side == "left" else slice(93, 100)] = 0
    with torch.no_grad():
        expected = theirs(ids, attention_mask=mask).logits
        parts = [ours(part, real, cache) for part, real in zip(ids.split(30, 1), mask.split(30, 1), strict=True)]
    assert largest_difference(torch.cat(parts, 1)[mask.bool()], expected[mask.bool()]) < 1e-5, "beyond the 64 original positions, too"


def test_other_precisions_stay_close(tmp_path):
    theirs, ours = pair(tmp_path)
    ids = ids_of()
    with torch.no_grad():
        expected = theirs(ids).logits
        exact = LanguageModel.from_pretrained(tmp_path, torch.float64)(ids)
        assert largest_difference(exact, theirs.double()(ids).logits) < 1e-6, "both compute their norms in float32 all the same"
        low = LanguageModel.from_pretrained(tmp_path, torch.bfloat16)
        assert low.tokens.weight.dtype == torch.bfloat16
        other = theirs.bfloat16()(ids).logits.float()
        got = low(ids).float()
        assert largest_difference(got, expected) < 2 * largest_difference(other, expected), "as near as theirs in bfloat16"


def swapped(one, other):
    def plant(model, patch):
        for block in model.blocks:
            parts = [block.get_submodule(name) for name in (one, other)]
            parts[0].weight, parts[1].weight = parts[1].weight, parts[0].weight

    return plant


def angles_of(change):
    def plant(model, patch):
        table = model.angles
        patch.setattr(model, "angles", lambda *places: change(*table(*places)))

    return plant


def heads_in_turn(model, patch):
    """Query head i shares key head i modulo their number, instead of its neighbours'."""
    for block in model.blocks:
        for weight, dim in ((block.attention.query.weight, 0), (block.attention.output.weight, 1)):
            weight.data = weight.data.unflatten(dim, (2, 2, 8)).transpose(dim, dim + 1).flatten(dim, dim + 2)


def options(**changes):
    def plant(model, patch):
        for block in model.blocks:
            for name, value in changes.items():
                owner, _, leaf = name.replace("__", ".").rpartition(".")
                patch.setattr(block.get_submodule(owner), leaf, value)

    return plant


PLANTED = {
    "gate and up exchanged": swapped("mlp.gate", "mlp.up"),
    "norms exchanged": swapped("attention_norm", "mlp_norm"),
    "keys and values exchanged": swapped("attention.key", "attention.value"),
    "heads grouped in turn": heads_in_turn,
    "no rotary positions": angles_of(lambda cosine, sine: (torch.ones_like(cosine), torch.zeros_like(sine))),
    "turned backwards": angles_of(lambda cosine, sine: (cosine, -sine)),
    "neighbours paired": angles_of(lambda *each: tuple(angle[:, :4].repeat_interleave(2, dim=1) for angle in each)),
    "epsilon forgotten": options(attention_norm__eps=1e-6),
    "gelu for silu": lambda model, patch: patch.setattr("minimllm.layers.blocks.F.silu", torch.nn.functional.gelu),
    "frequencies not scaled": lambda model, patch: patch.setattr(model, "angles", RotaryTable(8, 500.0)),
    "everything visible": lambda model, patch: patch.setattr(
        "minimllm.models.language_model.causal_mask", lambda n, *_: torch.ones(n, n) > 0
    ),
    "not itself": lambda model, patch: patch.setattr(
        "minimllm.models.language_model.causal_mask", lambda n, *_: (torch.ones(n, n).tril(-1) + (torch.arange(n) == 0)) > 0
    ),
}


@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_would_be_seen(tmp_path, monkeypatch, mistake):
    theirs, ours = pair(tmp_path, rope_parameters=LLAMA_3, rms_norm_eps=1e-2)
    ids = ids_of(length=40)
    with torch.no_grad():
        expected = theirs(ids).logits
        assert largest_difference(ours(ids), expected) < 1e-5
        PLANTED[mistake](ours, monkeypatch)
        assert largest_difference(ours(ids), expected) > 20 * 1e-5


def test_no_token_sees_a_later_one():
    model = randomise(LanguageModel(LanguageModelConfig.tiny(50)))
    ids = torch.randint(0, 50, (1, 9))
    with torch.no_grad():
        before, after = model(ids), model(torch.cat([ids[:, :5], (ids[:, 5:6] + 1) % 50, ids[:, 6:]], dim=1))
    moved = (before - after).abs().amax(-1)[0]
    assert (moved[:5] == 0).all() and (moved[5:] > 1e-6).all()


def test_a_mask_and_positions_of_ones_own():
    model = randomise(LanguageModel(LanguageModelConfig.tiny(50, normalise_heads=1e-5)))
    x = model.tokens(torch.randint(0, 50, (1, 6)))
    attend = torch.block_diag(torch.ones(3, 3), torch.ones(3, 3)).bool().tril()
    with torch.no_grad():
        packed = model.decode(x, attend=attend, positions=torch.tensor([0, 1, 2, 0, 1, 2]))
        assert largest_difference(packed[:, 3:], model.decode(x[:, 3:])) < 1e-5


def test_rotary_angles_turn_by_relative_distance():
    frequencies = rotary_frequencies(8, 100.0)
    assert frequencies.tolist() == pytest.approx([100 ** (-i / 4) for i in range(4)])
    cosine, sine = rotary_angles(torch.tensor([0, 3]), frequencies)
    assert cosine[0].tolist() == [1.0] * 8 and sine[1].tolist() == pytest.approx((3 * frequencies).sin().tolist() * 2)


def test_scaled_frequencies_are_kept_smoothed_or_divided():
    plain, scaled = rotary_frequencies(128, 500_000.0), rotary_frequencies(128, 500_000.0, RotaryScaling())
    kept, divided = scaled == plain, (scaled * 8 - plain).abs() < 1e-9
    assert (int(kept.sum()), int(divided.sum())) == (29, 29) and len(plain) == 64, "six lie between"


@pytest.mark.parametrize("preset", ["tiny", "llama_3_2_1b", "llama_3_1_8b"])
def test_angles_are_those_of_transformers_bit_for_bit_at_any_position(preset):
    config = LanguageModelConfig.tiny(50) if preset == "tiny" else getattr(LanguageModelConfig, preset)()
    width, scaling, rope = config.dim // config.heads, config.rotary_scaling, {"rope_type": "default"}
    if scaling is not None:
        rope = LLAMA_3 | {"factor": scaling.factor, "original_max_position_embeddings": scaling.original_length}
    rope |= {"rope_theta": config.rotary_base}
    theirs = LlamaRotaryEmbedding(LlamaConfig(hidden_size=width, num_attention_heads=1, rope_parameters=rope))
    positions = torch.tensor([[0, 1, 2, 1000, 50_000, 131_071]])
    for got, expected in zip(
        RotaryTable(width, config.rotary_base, scaling).at(positions, torch.float32), theirs(torch.ones(1), positions), strict=True
    ):
        assert torch.equal(got, expected)


def test_sizes_of_the_presets():
    with torch.device("meta"):
        for preset, count in (("llama_3_1_8b", 8_030_261_248), ("llama_3_2_1b", 1_235_814_400)):
            assert sum(p.numel() for p in LanguageModel(getattr(LanguageModelConfig, preset)()).parameters()) == count


def test_a_seed_gives_one_model_and_leaves_the_global_state_alone():
    state = torch.get_rng_state()
    first, second = (LanguageModel(LanguageModelConfig.tiny(50), seed=3) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, q) for p, q in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.tokens.weight, LanguageModel(LanguageModelConfig.tiny(50), seed=4).tokens.weight)


@pytest.mark.parametrize(
    "ids, mask, words",
    [
        (torch.ones(2, 0, dtype=torch.long), None, "at least one token"),
        (torch.ones(4, dtype=torch.long), None, "(batch, length)"),
        (torch.ones(1, 4), None, "integer"),
        (torch.full((1, 3), 50), None, "0 to 49"),
        (torch.full((1, 3), -1), None, "0 to 49"),
        (torch.ones(1, 257, dtype=torch.long), None, "257"),
        (torch.ones(1, 3, dtype=torch.long), torch.ones(1, 2), "(1, 2)"),
        (np.ones((1, 3), dtype=np.int64), None, "got a ndarray; torch.tensor(ids)"),
        ([[1, 2]], None, "got a list; torch.tensor(ids)"),
        (torch.ones(1, 2, dtype=torch.long), [[1, 1]], "got a list; torch.tensor(mask)"),
        (torch.ones(1, 3, dtype=torch.long), torch.tensor([[0, 1, 2]]), "1 on real tokens"),
    ],
)
def test_bad_input_is_refused(ids, mask, words):
    model = LanguageModel(LanguageModelConfig.tiny(50))
    with unchecked(), pytest.raises(ValueError) as error:
        model(ids, mask)
    assert words in str(error.value)


def test_more_tokens_than_positions_are_refused_with_the_cache_too():
    model = LanguageModel(LanguageModelConfig.tiny(50, context_length=6))
    cache = model.new_cache()
    model(torch.ones(1, 5, dtype=torch.long), cache=cache)
    with pytest.raises(ValueError, match="7 tokens.*6 positions"):
        model(torch.ones(1, 2, dtype=torch.long), cache=cache)
    with pytest.raises(ValueError, match="mlp_dim must be 1 or more, got 0"):
        LanguageModelConfig.tiny(50, mlp_dim=0)


def rewrite(folder, **changes):
    path = folder / "config.json"
    values = json.loads(path.read_text())
    values.update(changes)
    path.write_text(json.dumps({key: value for key, value in values.items() if value != "gone"}))


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(model_type="mistral"), "mistral"),
        (dict(attention_bias=True), "attention_bias"),
        (dict(mlp_bias=True), "mlp_bias"),
        (dict(hidden_act="gelu"), "hidden_act"),
        (dict(rope_parameters={"rope_type": "yarn", "factor": 2.0}), "yarn"),
        (dict(rope_parameters="gone", rope_scaling={"type": "linear", "factor": 2.0}), "linear"),
        (dict(rope_parameters={"rope_type": "llama3", "factor": 2.0}), "low_freq_factor"),
        (dict(rope_parameters={"rope_type": "default", "partial_rotary_factor": 0.5}), "partial_rotary_factor"),
        (dict(num_hidden_layers=4), "model.layers.3"),
        (dict(num_hidden_layers=2), "model.layers.2"),
        (dict(num_key_value_heads=4), "k_proj"),
        (dict(num_key_value_heads=3), "3 key/value heads"),
        (dict(vocab_size=100), "lm_head.weight"),
        (dict(vocab_size="many"), "vocab_size"),
        (dict(quantization_config={"bits": 4}), "quantization_config"),
        (dict(rope_parameters={"full_attention": {"rope_type": "yarn"}}), "full_attention"),
        (dict(rope_parameters=[1]), "rope_parameters"),
        (dict(rope_parameters={"rope_type": "default", "rope_theta": "large"}), "rope_theta = 'large'"),
        (dict(rope_parameters="gone", rope_theta=None), "rope_theta = None"),
        (dict(rope_parameters={"rope_type": "default", "rope_theta": 0}), "rotary_base must be above 0"),
        (dict(rope_parameters=LLAMA_3 | {"factor": "8"}), "factor = '8'"),
        (dict(rope_parameters=LLAMA_3 | {"high_freq_factor": 1.0}), "high_frequency_factor=1.0"),
        (dict(head_dim="8"), "head_dim"),
        (dict(head_dim=7), "even width, got 7"),
        (dict(num_key_value_heads="2"), "num_key_value_heads"),
        (dict(num_key_value_heads=0), "key_value_heads must be 1 or more"),
        (dict(hidden_size=30, head_dim="gone"), "7.5 (dim 30, 4 heads)"),
        (dict(rms_norm_eps="small"), "rms_norm_eps"),
        (dict(eos_token_id=[]), "eos_token_id = []"),
        (dict(pad_token_id="x"), "pad_token_id"),
        (dict(tie_word_embeddings=1), "tie_word_embeddings"),
    ],
)
def test_folders_that_do_not_fit_are_refused_by_name(tmp_path, changes, words):
    pair(tmp_path)
    rewrite(tmp_path, **changes)
    with pytest.raises(ValueError) as error:
        LanguageModel.from_pretrained(tmp_path)
    assert words in str(error.value)


def test_older_and_sparser_configs_load(tmp_path):
    _, ours = pair(tmp_path, rope_parameters=LLAMA_3)
    ids = ids_of()
    old = {key: value for key, value in LLAMA_3.items() if key != "rope_theta"}
    rewrite(tmp_path, rope_parameters="gone", rope_theta=500.0, rope_scaling=old, attention_bias="gone", mlp_bias="gone", hidden_act="gone")
    rewrite(tmp_path, eos_token_id=[7, 8], tie_word_embeddings="gone")
    (tmp_path / "generation_config.json").unlink()
    again = LanguageModel.from_pretrained(tmp_path)
    assert again.config.eos_token_id == (7, 8) and torch.equal(again(ids), ours(ids))
    rewrite(tmp_path, bos_token_id="gone", eos_token_id="gone", pad_token_id=-1, rms_norm_eps=1, head_dim=None)
    sparse = LanguageModel.from_pretrained(tmp_path).config
    assert (sparse.start_token_id, sparse.eos_token_id, sparse.pad_token_id, sparse.norm_eps) == (1, 2, -1, 1)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ValueError, match="of shape \\(32000, 4096\\)"):  # the sizes of Llama 7B
        LanguageModel.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda tensors: tensors.pop("model.layers.1.mlp.gate_proj.weight"), "model.layers.1.mlp.gate_proj.weight"),
        (lambda tensors: tensors.pop("lm_head.weight"), "lm_head.weight"),
        (lambda tensors: tensors.update({"model.layers.1.self_attn.q_proj.bias": torch.ones(32)}), "model.layers.1.self_attn.q_proj.bias"),
        (lambda tensors: tensors.update({"model.norm.weight": torch.ones(31)}), "(31,)"),
        (lambda tensors: tensors.update({"model.norm.weight": torch.ones(32).int()}), "int32"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(tmp_path, damage, words):
    pair(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    damage(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError) as error:
        LanguageModel.from_pretrained(tmp_path)
    assert words in str(error.value)


def test_buffers_of_older_files_are_passed_over(tmp_path):
    _, ours = pair(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file(tensors | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}, tmp_path / "model.safetensors")
    assert torch.equal(LanguageModel.from_pretrained(tmp_path)(ids_of()), ours(ids_of()))


def test_a_tied_folder_may_carry_the_head_all_the_same(tmp_path):
    theirs, ours = pair(tmp_path, tie_word_embeddings=True)
    tensors = load_file(tmp_path / "model.safetensors")
    assert "lm_head.weight" not in tensors
    save_file(tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, tmp_path / "model.safetensors")
    assert torch.equal(LanguageModel.from_pretrained(tmp_path)(ids_of()), ours(ids_of()))
    rewrite(tmp_path, tie_word_embeddings=False)
    apart = LanguageModel.from_pretrained(tmp_path)
    assert apart.head.weight is not apart.tokens.weight


def test_a_tied_head_is_the_embedding_table_itself_also_in_folders(tmp_path):
    _, ours = pair(tmp_path / "theirs", tie_word_embeddings=True)
    assert ours.head.weight is ours.tokens.weight and not ours.head.weight.is_meta
    assert len(list(ours.parameters())) == len({id(each) for each in ours.state_dict(keep_vars=True).values()})
    save(tmp_path / "ours", ours, None, {})
    again, _ = load(tmp_path / "ours")
    assert again.config == ours.config and again.head.weight is again.tokens.weight
    assert torch.equal(again(ids_of()), ours(ids_of()))
    untied = LanguageModel(LanguageModelConfig.tiny(50, tied=False, rotary_scaling=RotaryScaling()))
    save(tmp_path / "untied", untied, None, {})
    again, _ = load(tmp_path / "untied")
    assert again.config == untied.config and torch.equal(again.head.weight, untied.head.weight)


def test_looked_up_angles_are_those_of_the_positions_whatever_was_asked_before():
    table = RotaryTable(8, 100.0, RotaryScaling(original_length=16))
    with torch.inference_mode():
        table(0, 3, torch.float32, torch.device("cpu"))
    assert not table.table[0].is_inference(), "else a training step afterwards would fail"
    for past, length, dtype in ((0, 5, torch.float32), (60, 300, torch.float32), (2, 3, torch.bfloat16), (0, 700, torch.float32)):
        found = table(past, length, dtype, torch.device("cpu"))
        expected = rotary_angles(torch.arange(past, past + length), rotary_frequencies(8, 100.0, RotaryScaling(original_length=16)), dtype)
        assert all(torch.equal(*each) and each[0].dtype == dtype for each in zip(found, expected, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_the_norm_is_that_of_llama_bit_for_bit(dtype):
    ours, theirs = (randomise(norm).to(dtype) for norm in (RMSNorm(96, eps=1e-3), LlamaRMSNorm(96, eps=1e-3)))
    x = (3 * torch.randn(4, 7, 96)).to(dtype)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


def test_torch_func_goes_through_the_norm():
    norm, x = RMSNorm(6), torch.randn(5, 3, 6, generator=torch.Generator().manual_seed(0))
    weight = torch.arange(1.0, 7.0)

    def ours(weight, x):
        return torch.func.functional_call(norm, {"weight": weight}, (x,)).pow(3).sum()

    def theirs(weight, x):
        return F.rms_norm(x, (6,), weight, 1e-5).pow(3).sum()

    of_each, hessian = torch.func.vmap(torch.func.grad(ours), (None, 0)), torch.func.hessian(ours)
    assert largest_difference(torch.func.grad(ours)(weight, x), torch.func.grad(theirs)(weight, x)) < 1e-3
    assert largest_difference(of_each(weight, x), torch.func.vmap(torch.func.grad(theirs), (None, 0))(weight, x)) < 1e-3
    assert largest_difference(hessian(weight, x), torch.func.hessian(theirs)(weight, x)) < 1e-2
    model = LanguageModel(LanguageModelConfig.tiny(50))
    ids, weights = torch.randint(0, 50, (2, 5), generator=torch.Generator().manual_seed(0)), dict(model.named_parameters())
    gradients = torch.func.grad(lambda weights: torch.func.functional_call(model, weights, (ids,)).square().mean())(weights)
    model(ids).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert largest_difference(gradients[name], parameter.grad) < 1e-5 * parameter.grad.abs().max() + 1e-8, name


def test_the_norms_gradient_by_hand_is_the_gradient():
    x, weight = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True), torch.randn(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, weight: norms._RMSNorm.apply(x, weight, 1e-2), (x, weight))


@pytest.mark.parametrize("shape, order", [((96,), (0,)), ((6, 96), (0, 1)), ((2, 3, 4, 24), (0, 2, 1, 3))])
@pytest.mark.parametrize("frozen", [False, True])
def test_the_norm_learns_as_torchs_own_does(shape, order, frozen):
    """Whatever the number of axes and their order in memory; and with a frozen scale, what lies below it."""
    norm, given = randomise(RMSNorm(shape[-1])), torch.randn(shape).permute(order)
    norm.requires_grad_(not frozen)
    pull, found = torch.randn_like(given), []
    for compute in (norm, lambda x: F.rms_norm(x, norm.weight.shape, norm.weight, norm.eps)):
        x = given.clone().requires_grad_()
        norm.zero_grad()
        y = compute(x)
        y.backward(pull)
        found.append((y, x.grad, norm.weight.grad))
    (ours, our_x, our_weight), (theirs, their_x, their_weight) = found
    assert torch.equal(ours, theirs) and torch.allclose(our_x, their_x, atol=1e-6)
    assert our_weight is their_weight is None if frozen else torch.allclose(our_weight, their_weight, atol=1e-5)


def test_a_tied_folder_whose_head_differs_is_refused(tmp_path):
    pair(tmp_path)
    rewrite(tmp_path, tie_word_embeddings=True)
    with pytest.raises(ValueError, match="lm_head.weight differs from the embedding.*tie_word_embeddings"):
        LanguageModel.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "config, generation, expected",
    [
        (dict(eos_token_id=[7, 8, 9]), None, (7, 8, 9)),
        (dict(eos_token_id=7), None, 7),
        (dict(eos_token_id=[7]), None, (7,)),
        (dict(eos_token_id=None), None, None),
        (dict(eos_token_id=7), dict(eos_token_id=[8, 9]), (8, 9)),
        (dict(eos_token_id=[7, 8, 9]), dict(eos_token_id=9), 9),
        (dict(eos_token_id=[7, 8]), dict(temperature=0.6), (7, 8)),
        (dict(eos_token_id=[7, 8]), dict(eos_token_id=None), (7, 8)),
    ],
)
def test_all_end_tokens_are_kept(tmp_path, config, generation, expected):
    """As in transformers ``generation_config.json`` goes before ``config.json`` where it names ends; saving writes them to both."""
    pair(tmp_path / "theirs")
    (tmp_path / "theirs" / "generation_config.json").unlink()
    rewrite(tmp_path / "theirs", pad_token_id=3, **config)
    if generation is not None:
        (tmp_path / "theirs" / "generation_config.json").write_text(json.dumps(generation))
    ours = LanguageModel.from_pretrained(tmp_path / "theirs")
    assert (ours.config.eos_token_id, ours.config.pad_token_id) == (expected, 3) and hash(ours.config)
    ours.save_pretrained(tmp_path / "ours")
    written = list(expected) if isinstance(expected, tuple) else expected
    for file in ("config.json", "generation_config.json"):
        assert json.loads((tmp_path / "ours" / file).read_text())["eos_token_id"] == written
    assert LanguageModel.from_pretrained(tmp_path / "ours").config == ours.config
    again = LlamaForCausalLM.from_pretrained(tmp_path / "ours")
    assert again.generation_config.eos_token_id == again.config.eos_token_id == written
    save(tmp_path / "shipped", ours, None, {})
    assert load(tmp_path / "shipped")[0].config == ours.config


def test_end_tokens_that_are_none_are_refused(tmp_path):
    pair(tmp_path)
    for file, value in (
        ("generation_config.json", "</s>"),
        ("generation_config.json", [2, None]),
        ("config.json", [True]),
        ("generation_config.json", []),
    ):
        values = json.loads((tmp_path / file).read_text())
        (tmp_path / file).write_text(json.dumps(values | {"eos_token_id": value}))
        with pytest.raises(ValueError, match=f"{file} has eos_token_id = "):
            LanguageModel.from_pretrained(tmp_path)
        (tmp_path / file).write_text(json.dumps(values))
    (tmp_path / "generation_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"generation_config\.json cannot be read"):
        LanguageModel.from_pretrained(tmp_path)
