"""A training step of the unified decoder beside LlavaForConditionalGeneration: same sizes, texts and optimizer, in turn in one process.

python tests/benchmarks/bench_unified.py            both comparisons
python tests/benchmarks/bench_unified.py rows       the first alone

``rows``: the same rows of text for both, padded, the loss on the answers. ``texts``: 64 pictures with nine texts each;
transformers knows no packing, and reads the picture once for each text.
"""

import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
import torch.nn.functional as F
from paired import paired, report
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from minimllm import Tokenizer, UnifiedConfig, UnifiedMLLM
from minimllm.data.asking import sample_questions
from minimllm.data.captioning import captions
from minimllm.data.words import WORDS
from minimllm.data.world import scenes
from minimllm.training.packing import Packed, pack, packed_loss

TOKENIZER = Tokenizer.from_words(WORDS)
CONFIG = UnifiedConfig.tiny(TOKENIZER.vocab_size, TOKENIZER.image_token_id)


def transformers_model() -> LlavaForConditionalGeneration:
    image, text = CONFIG.vision, CONFIG.language
    vision = CLIPVisionConfig(
        hidden_size=image.dim,
        intermediate_size=image.mlp_dim,
        num_hidden_layers=image.layers,
        num_attention_heads=image.heads,
        image_size=image.image_size,
        patch_size=image.patch_size,
    )
    language = LlamaConfig(
        vocab_size=text.vocab_size,
        hidden_size=text.dim,
        intermediate_size=text.mlp_dim,
        num_hidden_layers=text.layers,
        num_attention_heads=text.heads,
        num_key_value_heads=text.key_value_heads,
        max_position_embeddings=text.context_length,
        rms_norm_eps=text.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": text.rotary_base},
        tie_word_embeddings=text.tied,
        pad_token_id=TOKENIZER.pad_token_id,
    )
    return LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=language, image_token_index=CONFIG.image_token_id))


def one_by_one(batch: Packed) -> tuple[torch.Tensor, ...]:
    """Every packed text as a row of its own: ids, labels, mask, and its row before."""
    rows = []
    for row in range(len(batch.ids)):
        for number in range(1, int(batch.segments[row].max()) + 1):
            keep = (batch.segments[row] == 0) | (batch.segments[row] == number)
            rows.append((batch.ids[row][keep], batch.scored[row][keep], row))
    ids = torch.nn.utils.rnn.pad_sequence([ids for ids, _, _ in rows], batch_first=True, padding_value=TOKENIZER.pad_token_id)
    scored = torch.nn.utils.rnn.pad_sequence([scored for _, scored, _ in rows], batch_first=True)
    lengths = torch.tensor([len(ids) for ids, _, _ in rows])
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    return ids, ids.masked_fill(scored == 0, -100), mask, torch.tensor([row for _, _, row in rows])


def training_step(model, loss):
    model.train()
    (model.vision if isinstance(model, UnifiedMLLM) else model.model.vision_tower).requires_grad_(False)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)

    def step():
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()

    return step


def main() -> None:
    torch.manual_seed(0)
    world = scenes(64, 0, "train")
    images = torch.randn(64, 3, 32, 32)
    batch = pack(
        TOKENIZER, sample_questions(world, 8), captions(world, "full"), image_tokens=CONFIG.image_tokens, pictures=1, images=images
    )
    ids, labels, mask, of_row = one_by_one(batch)
    chosen = torch.arange(0, len(ids), 9)[:64] + torch.arange(64) % 8 + 1  # a question about each picture
    longest = int(mask[chosen].sum(1).max())
    few = [part[chosen, :longest] for part in (ids, labels, mask)]

    def theirs(ids, labels, mask, images):
        return lambda model: model(input_ids=ids, pixel_values=images, attention_mask=mask, labels=labels).loss

    def ours(ids, labels, mask, images):
        def loss(model):
            return F.cross_entropy(model(ids, images, mask)[:, :-1].flatten(0, 1), labels[:, 1:].flatten())

        return loss

    wanted = sys.argv[1:] or ["rows", "texts"]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    if "rows" in wanted:
        contestants = {
            "minimllm": training_step(UnifiedMLLM(CONFIG), ours(*few, images)),
            "transformers": training_step(transformers_model(), theirs(*few, images)),
        }
        report(f"training step, 64 rows of {longest} tokens with a picture each", paired(contestants, rounds=15), "minimllm")
    if "texts" in wanted:
        contestants = {
            "minimllm": training_step(UnifiedMLLM(CONFIG), lambda model: packed_loss(model, batch)[0]),
            "transformers": training_step(transformers_model(), theirs(ids, labels, mask, images[of_row])),
        }
        report("training step, 64 pictures with a caption and eight questions each", paired(contestants, rounds=5), "minimllm")


if __name__ == "__main__":
    main()
