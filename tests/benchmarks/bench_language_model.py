"""Training and writing with the decoder beside Llama of transformers: same sizes, weights and threads, in turn in one process.

python tests/benchmarks/bench_language_model.py            both sizes
python tests/benchmarks/bench_language_model.py course     the course's size alone
"""

import os
import sys
from functools import partial

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
import torch.nn.functional as F
from paired import matmul_rate, paired, report
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from minimllm import LanguageModel, LanguageModelConfig, generate
from minimllm.models.language_model import WEIGHT_NAMES
from minimllm.weights.pretrained import file_names

MIDDLE = dict(dim=512, layers=8, heads=8, key_value_heads=4, mlp_dim=1408, context_length=1024)
# Name -> sizes; texts in a batch and their length in training; rounds; prompt and new tokens in writing; rounds.
SIZES = {
    "course": (LanguageModelConfig.tiny(128), (64, 64, 15), (16, 64, 7)),
    "middle": (LanguageModelConfig.tiny(8000, **MIDDLE), (4, 128, 5), (64, 32, 3)),
}


def models(config: LanguageModelConfig) -> tuple[LanguageModel, LlamaForCausalLM]:
    """Ours with random weights, and theirs with the same."""
    ours = LanguageModel(config)
    theirs = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.dim,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.key_value_heads,
            intermediate_size=config.mlp_dim,
            max_position_embeddings=config.context_length,
            rms_norm_eps=config.norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.rotary_base},
            tie_word_embeddings=config.tied,
            bos_token_id=None,
            eos_token_id=None,
        )
    )
    weights = {file_names(name, WEIGHT_NAMES)[0]: value for name, value in ours.named_parameters()}
    assert not theirs.load_state_dict(weights, strict=False).unexpected_keys
    ids = torch.randint(0, config.vocab_size, (2, 16))
    with torch.no_grad():
        difference = (ours(ids) - theirs.eval()(ids).logits).abs().max().item()
    assert difference < 1e-4, f"the two models differ by {difference}"
    return ours, theirs


def forward_operations(config: LanguageModelConfig, batch: int, length: int) -> float:
    """Two operations for each multiply-add of the matrix products of one forward pass; half the scores, the causal ones."""
    shared = config.key_value_heads / config.heads
    linear = config.dim**2 * (2 + 2 * shared) + 3 * config.dim * config.mlp_dim
    per_token = config.layers * (linear + length * config.dim) + config.dim * config.vocab_size
    return 2 * batch * length * per_token


def training_step(model: nn.Module, loss):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step():
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def losses(ours: LanguageModel, theirs: LlamaForCausalLM, ids: Tensor) -> dict:
    def minimllm():
        return F.cross_entropy(ours(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())

    def transformers():
        return theirs(ids, labels=ids).loss

    return {"minimllm": minimllm, "transformers": transformers}


if __name__ == "__main__":
    rate = matmul_rate()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, matmul rate {rate / 1e9:.0f} GFLOP/s")
    for name, (config, (batch, length, rounds), (prompt, new, writing_rounds)) in SIZES.items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        ours, theirs = models(config)
        # Before training, while both have the same weights, so that both write the same.
        for rows in (1, 32):
            ids = torch.randint(0, config.vocab_size, (rows, prompt))
            their_way = partial(
                theirs.generate, ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False, pad_token_id=0
            )
            contestants = {"minimllm": partial(generate, ours, ids, new), "transformers": their_way}
            assert torch.equal(generate(ours, ids, new), their_way()), "the two wrote different texts"
            seconds = paired(contestants, writing_rounds)
            report(f"{name}: writing {rows} x {new} tokens after {prompt}, greedily", seconds, "minimllm")
            for key, times in seconds.items():
                print(f"  {key:<28}{rows * new / sorted(times)[len(times) // 2]:>10.0f} tokens/s")
        ids = torch.randint(0, config.vocab_size, (batch, length))
        ours.train(), theirs.train()
        steps = {
            key: training_step({"minimllm": ours, "transformers": theirs}[key], loss) for key, loss in losses(ours, theirs, ids).items()
        }
        operations = 3 * forward_operations(config, batch, length)
        report(f"{name}: training step, {batch} texts of {length} tokens", paired(steps, rounds), "minimllm", operations, rate)
