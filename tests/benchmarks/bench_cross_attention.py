"""Cross-attention beside MllamaForCausalLM of transformers: a training step and writing; same sizes and weights, in turn in one process.

Both are given the features of the pictures; neither runs an image encoder. Ours also runs its projector and builds the mask from the ids,
theirs is given both ready-made. A training step is timed twice: with every token scored, and with a third of them, as where answers
alone are scored; ours then leaves the others out of the end of the last block and of the output layer.

python tests/benchmarks/bench_cross_attention.py            both sizes
python tests/benchmarks/bench_cross_attention.py course     the course's size alone
"""

import os
import sys
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import torch.nn.functional as F
from mllama import cross_arguments, mllama, take_weights
from paired import matmul_rate, paired, report
from support import CACHE, randomise
from torch import Tensor, nn
from transformers import DynamicCache, MllamaForCausalLM

from minimllm import CrossAttentionConfig, CrossAttentionMLLM, LanguageModelConfig, generate
from minimllm.models.vit import ViTConfig

IMAGE = 2


def config_of(language: LanguageModelConfig, visual_tokens: int, cross_before: tuple[int, ...]) -> CrossAttentionConfig:
    """One linear projector as wide as the decoder, through which weights of 1 pass the features unchanged."""
    vision = ViTConfig(image_size=(8, 8 * visual_tokens), patch_size=8, dim=language.dim, layers=1, heads=4, mlp_dim=1, classes=0)
    return CrossAttentionConfig(vision, language, IMAGE, cross_before, projector="linear", feature_layer=1)


MIDDLE = dict(dim=512, layers=8, heads=8, key_value_heads=4, mlp_dim=1408, context_length=1024)
# Name -> sizes; texts in a batch and their length in training, rounds; prompt and new tokens in writing, rounds.
SIZES = {
    "course": (config_of(LanguageModelConfig.tiny(128, tied=False), 4, (1, 2)), (64, 64, 15), (16, 64, 7)),
    "middle": (config_of(LanguageModelConfig.tiny(8000, tied=False, **MIDDLE), 256, (3, 6)), (4, 128, 5), (64, 32, 3)),
}


def models(config: CrossAttentionConfig) -> tuple[CrossAttentionMLLM, MllamaForCausalLM]:
    """Theirs with random weights and open gates, and ours with the same; checked to give the same logits."""
    theirs = randomise(mllama(config), std=0.05)
    ours = take_weights(CrossAttentionMLLM(config).eval(), theirs)
    ours.vision.requires_grad_(False)
    ours.features = lambda given: given  # what it is given as images are features already
    ids, features = inputs(config, 2, 16)
    with torch.no_grad():
        difference = (ours(ids, features) - theirs(ids, **pictures(config, features, 16)).logits).abs().max().item()
    assert difference < 1e-4, f"the two models differ by {difference}"
    return ours, theirs


def inputs(config: CrossAttentionConfig, rows: int, length: int) -> tuple[Tensor, Tensor]:
    """Texts that begin with a picture, and its features."""
    ids = torch.randint(3, config.language.vocab_size, (rows, length))
    ids[:, 0] = IMAGE
    return ids, torch.randn(rows, config.visual_tokens, config.language.dim)


def pictures(config: CrossAttentionConfig, features: Tensor, length: int) -> dict[str, Tensor]:
    """What their decoder takes; every token sees the picture."""
    visible = torch.ones(len(features), length, 1, dtype=torch.bool)
    return {"cross_attention_states": features, **cross_arguments(visible, config.visual_tokens)}


def generate_by_transformers(model: MllamaForCausalLM, arguments: dict, ids: Tensor, new: int) -> Tensor:
    """Their ``generate``. The states are given with the prompt alone, as ``MllamaForConditionalGeneration`` does it."""
    prepare = type(model).prepare_inputs_for_generation

    def prepare_inputs(input_ids, **kwargs):  # generate looks for this name, kwargs
        prepared = prepare(model, input_ids, **kwargs)
        return prepared if prepared["input_ids"].shape[1] > 1 else prepared | {"cross_attention_states": None}

    model.prepare_inputs_for_generation = prepare_inputs
    settings = dict(max_new_tokens=new, do_sample=False, suppress_tokens=[IMAGE], eos_token_id=None, pad_token_id=0)
    return model.generate(ids, attention_mask=torch.ones_like(ids), **arguments, **settings)


@torch.no_grad()
def loop_by_transformers(model: MllamaForCausalLM, arguments: dict, ids: Tensor, new: int) -> Tensor:
    """The leanest loop around their ``forward``."""
    cache = DynamicCache(config=model.config)
    token, states, written = ids, arguments["cross_attention_states"], [ids]
    for _ in range(new):
        given = arguments | {"cross_attention_states": states}
        logits = model(token, **{CACHE: cache}, use_cache=True, logits_to_keep=1, **given).logits[:, -1]
        logits[:, IMAGE] = float("-inf")
        token, states = logits.argmax(dim=-1, keepdim=True), None
        written.append(token)
    return torch.cat(written, dim=1)


def forward_operations(config: CrossAttentionConfig, batch: int, length: int) -> float:
    """Two operations for each multiply-add of the matrix products of one forward pass; half the scores of the text, the causal ones."""
    language, tokens = config.language, config.visual_tokens
    shared = language.key_value_heads / language.heads
    mlp, square = 3 * language.dim * language.mlp_dim, language.dim**2
    own = length * (square * (2 + 2 * shared) + mlp + length * language.dim)
    cross = length * (2 * square + mlp + 2 * tokens * language.dim) + tokens * 2 * shared * square
    head = length * language.dim * language.vocab_size
    return 2 * batch * (language.layers * own + len(config.cross_before) * cross + head)


def our_loss(model: CrossAttentionMLLM, ids: Tensor, features: Tensor, scored: Tensor | None = None) -> Tensor:
    if scored is None:
        return F.cross_entropy(model(ids, features)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    rows, tokens = scored.nonzero(as_tuple=True)
    return F.cross_entropy(model(ids, features, places=(rows, tokens - 1)), ids[rows, tokens])


def their_loss(model: MllamaForCausalLM, ids: Tensor, arguments: dict[str, Tensor], scored: Tensor | None = None) -> Tensor:
    labels = ids if scored is None else ids.masked_fill(~scored, -100)
    return model(ids, labels=labels, use_cache=False, **arguments).loss


def training_step(model: nn.Module, loss):
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad], lr=1e-4, fused=True)

    def step():
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


if __name__ == "__main__":
    rate = matmul_rate()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, matmul rate {rate / 1e9:.0f} GFLOP/s")
    for name, (config, (batch, length, rounds), (prompt, new, writing_rounds)) in SIZES.items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        ours, theirs = models(config)
        # Before training, while both have the same weights, so that all write the same.
        for rows in (1, 32):
            ids, features = inputs(config, rows, prompt)
            broadcast = pictures(config, features, 1)  # one row of the mask for all tokens, those to come among them
            contestants = {
                "minimllm": partial(generate, ours, ids, new, images=features),
                "transformers, generate": partial(generate_by_transformers, theirs, broadcast, ids, new),
                "transformers, bare loop": partial(loop_by_transformers, theirs, broadcast, ids, new),
            }
            texts = [contestant() for contestant in contestants.values()]
            assert all(torch.equal(texts[0], text) for text in texts), "they wrote different texts"
            seconds = paired(contestants, writing_rounds)
            report(f"{name}: writing {rows} x {new} tokens after {prompt}, greedily", seconds, "minimllm")
            for key, times in seconds.items():
                print(f"  {key:<28}{rows * new / sorted(times)[len(times) // 2]:>10.0f} tokens/s")
        ids, features = inputs(config, batch, length)
        ours.train(), theirs.train()
        third = torch.arange(length).expand(batch, length) % 9 > 5
        arguments = pictures(config, features, length)
        for scored in (None, third):  # while both still have the same weights
            losses = our_loss(ours, ids, features, scored), their_loss(theirs, ids, arguments, scored)
            assert torch.allclose(*losses, atol=1e-4), f"different losses: {losses}"
        for scored, title in ((None, "all scored"), (third, "a third of them scored")):
            steps = {
                "minimllm": training_step(ours, partial(our_loss, ours, ids, features, scored)),
                "transformers": training_step(theirs, partial(their_loss, theirs, ids, arguments, scored)),
            }
            operations = 3 * forward_operations(config, batch, length) if scored is None else None
            seconds = paired(steps, rounds)
            report(f"{name}: training step, {batch} texts of {length} tokens, {title}", seconds, "minimllm", operations, rate)
