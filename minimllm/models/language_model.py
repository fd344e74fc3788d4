"""A decoder language model as Llama builds it (Touvron et al. 2023), numerically equal to ``LlamaForCausalLM`` of transformers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Num, Shaped
from torch import Tensor, nn

from minimllm.layers.attention import KeyValueCache, Rotary
from minimllm.layers.blocks import DecoderBlock
from minimllm.layers.masks import causal_mask, check_mask
from minimllm.layers.norms import RMSNorm
from minimllm.layers.rotary import RotaryTable
from minimllm.models.language_model_config import (
    LanguageModelConfig,
    config_from_transformers,
    config_to_transformers,
    generation_to_transformers,
    with_generation_config,
)
from minimllm.models.text_encoder import check_ids
from minimllm.weights import gguf, gguf_llama, pretrained, saving


@dataclass
class Cache:
    """What a decoder keeps of the tokens it has read: keys and values of every block, and which of the tokens are padding.

    Attributes:
        layers: keys and values, one for each block.
        mask: True on real tokens, ``(batch, length)``; ``None`` while there is no padding.
        length: number of tokens read.
        pictures: what a multimodal model keeps of its pictures.
    """

    layers: list[KeyValueCache]
    mask: Tensor | None = None
    length: int = 0
    pictures: dict[str, Any] = field(default_factory=dict)

    def check_rows(self, rows: int) -> None:
        """Raise a ``ValueError`` unless what was read so far has as many rows."""
        for layer in self.layers:
            layer.check_rows(rows)

    def bytes(self) -> int:
        """Memory of all keys and values: ``2 * layers * batch * key_value_heads * length * head_dim`` numbers.

        Not counted is the room that is made ahead for new tokens, a quarter more at most beside that for 32 tokens.
        """
        kept = [tensor for layer in self.layers for tensor in (layer.keys, layer.values) if tensor is not None]
        return sum(tensor.numel() * tensor.element_size() for tensor in kept)


class LanguageModel(nn.Module):
    """Token embeddings, decoder blocks with rotary positions, a final norm, and logits for the next token at every place.

    Args:
        config: the sizes.
        seed: of the random weights; the global random state is neither read nor changed.
    """

    image_token_id = None  # it reads no pictures

    def __init__(self, config: LanguageModelConfig, seed: int = 0):
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(seed)
            self.tokens = nn.Embedding(config.vocab_size, config.dim)
            nn.init.normal_(self.tokens.weight, std=config.embedding_std)
            self.blocks = nn.ModuleList(
                DecoderBlock(
                    config.dim,
                    config.heads,
                    config.mlp_dim,
                    key_value_heads=config.key_value_heads,
                    head_dim=config.head_dim,
                    norm_eps=config.norm_eps,
                    normalise_heads=config.normalise_heads,
                )
                for _ in range(config.layers)
            )
            self.norm = RMSNorm(config.dim, eps=config.norm_eps)
            self.head = nn.Linear(config.dim, config.vocab_size, bias=False)
            if config.tied:
                self.head.weight = self.tokens.weight
        self.angles = RotaryTable(self.blocks[0].attention.head_dim, config.rotary_base, config.rotary_scaling)

    def new_cache(self) -> Cache:
        """An empty cache for :meth:`forward`, which fills it."""
        return Cache([KeyValueCache() for _ in self.blocks])

    def prepare(
        self,
        x: Float[Tensor, "batch length dim"],
        mask: Shaped[Tensor, "batch length"] | None = None,
        cache: Cache | None = None,
        attend: Bool[Tensor, "..."] | None = None,
        positions: Num[Tensor, "..."] | None = None,
    ) -> tuple[Bool[Tensor, "..."] | None, Rotary]:
        """Which keys each token may attend to, and the rotary angles: what every block is given. Notes the new tokens in the cache.

        Arguments as of :meth:`decode`.
        """
        past, length = (cache.length if cache else 0), x.shape[1]
        if cache is not None:
            cache.check_rows(len(x))
        if mask is not None:
            check_mask(mask)
            mask = None if bool(mask.all()) else mask.bool()
        if cache is not None and (mask is not None or cache.mask is not None):
            ones = x.new_ones(len(x), past, dtype=torch.bool)
            new = x.new_ones(len(x), length, dtype=torch.bool) if mask is None else mask
            mask = torch.cat([ones if cache.mask is None else cache.mask, new], dim=1)
        counted = None if mask is None else mask.cumsum(dim=1)  # real tokens up to each place, those in the cache among them
        longest = past + length if mask is None else int(counted[:, -1].max())
        if longest > self.config.context_length:
            raise ValueError(f"{longest} tokens are more than the {self.config.context_length} positions of this model; shorten the text")
        if cache is not None:
            cache.mask, cache.length = mask, past + length
        if attend is None and (length > 1 or mask is not None):
            attend = causal_mask(length, x.device, past)
            if mask is not None:
                # Padding attends to itself, so that its softmax has something to sum over; nobody attends to padding.
                attend = attend & mask[:, None, None, :] | attend.triu(past)
        if positions is not None:
            return attend, self.angles.at(positions, x.dtype)
        if mask is None:
            return attend, self.angles(past, length, x.dtype, x.device)
        return attend, self.angles.rows((counted[:, past:] - 1).clamp(min=0), past + length, x.dtype)

    def decode(
        self,
        x: Float[Tensor, "batch length dim"],
        mask: Shaped[Tensor, "batch length"] | None = None,
        cache: Cache | None = None,
        attend: Bool[Tensor, "..."] | None = None,
        positions: Num[Tensor, "..."] | None = None,
        places: tuple[Tensor, Tensor] | None = None,
    ) -> Float[Tensor, "*places dim"]:
        """Embeddings through all blocks and the final norm.

        Args:
            x: ``(batch, length, dim)``; with a cache, of the new tokens only.
            mask: 1 on real tokens, 0 on padding, of the tokens in ``x``; ``None``: all are real.
            cache: of :meth:`new_cache`; extended in place.
            attend: True = may attend, broadcasting to ``(batch, heads, length, keys)``, in place of the causal mask with padding.
            positions: of the tokens in ``x``, ``(length,)`` or ``(batch, length)``; ``None``: counted on from the cache, padding left out.
                Only their differences matter.
            places: ``(rows, places)`` of the tokens whose output is wanted; ``None``: all.

        Returns:
            ``(batch, length, dim)``, or ``(n, dim)`` of ``n`` places.

        Raises:
            ValueError: more tokens than ``context_length``.
        """
        attend, rotary = self.prepare(x, mask, cache, attend, positions)
        return self.through_blocks(x, attend, rotary, cache, places)

    def through_blocks(
        self,
        x: Float[Tensor, "batch length dim"],
        attend: Bool[Tensor, "..."] | None,
        rotary: Rotary,
        cache: Cache | None = None,
        places: tuple[Tensor, Tensor] | None = None,
        before: Callable[[int, Tensor], Tensor] | None = None,
    ) -> Float[Tensor, "*places dim"]:
        """As :meth:`decode`, from what :meth:`prepare` gave; ``before(index, x)`` is what goes into block ``index`` in place of ``x``."""
        last = len(self.blocks) - 1
        for index, block in enumerate(self.blocks):
            x = x if before is None else before(index, x)
            x = block(x, attend, rotary, cache.layers[index] if cache else None, places if index == last else None)
        return self.norm(x)

    def logits(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch vocab"]:
        """A number for every token of the vocabulary, from the output of :meth:`decode`."""
        return self.head(x)

    def forward(
        self,
        ids: Int[Tensor, "batch length"],
        mask: Shaped[Tensor, "batch length"] | None = None,
        cache: Cache | None = None,
        only_last: bool = False,
    ) -> Float[Tensor, "batch places vocab"]:
        """``(batch, length)`` token ids -> ``(batch, length, vocab)`` logits; those at place ``i`` are about token ``i + 1``.

        Args:
            ids: token ids; with a cache, the new ones only.
            mask: 1 on real tokens, 0 on padding, which may stand anywhere: a row comes out as it would alone.
            cache: of :meth:`new_cache`; extended in place.
            only_last: the logits of the last place alone, ``(batch, 1, vocab)``.

        Raises:
            ValueError: ids that are no batch of integers, an empty text, more tokens than positions, an id outside the vocabulary,
                a mask of another shape.
        """
        check_ids(ids, mask, self.config.vocab_size, self.config.context_length)
        x = self.decode(self.tokens(ids), mask, cache)
        return self.logits(x[:, -1:] if only_last else x)

    @classmethod
    def from_pretrained(
        cls, folder: str | PathLike, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> "LanguageModel":
        """Load a folder (or hub name) written by ``LlamaForCausalLM.save_pretrained``.

        Args:
            folder: the folder, with ``config.json`` and safetensors, or the name of a repository on the Hugging Face hub.
            dtype: of the weights; ``None`` keeps the files', or takes the config's where they are of several types.
            device: where to; ``None``: the processor's memory, where the weights are the files' own pages.

        Raises:
            ValueError: another kind of model, an option that is not implemented, a missing, unexpected or wrongly shaped
                tensor, a damaged file; the message names it.
        """
        with pretrained.opened(folder) as folder:
            config = config_from_transformers(pretrained.read_config(folder, "llama"))
            config = with_generation_config(config, folder)
            return pretrained.load(
                cls, config, folder, LLAMA_NAMES, dtype, device, copies={"lm_head.weight": "tokens.weight"} if config.tied else None
            )

    @classmethod
    def from_gguf(cls, path: str | PathLike, dtype: torch.dtype = torch.float32) -> "LanguageModel":
        """Load a GGUF file of Llama's architecture, as llama.cpp and its users write them.

        Args:
            path: of the file, which is only read.
            dtype: of the weights; they are dequantised in float32 first.

        Raises:
            ValueError: another format or architecture, tensors of another type than F32, F16, BF16, Q8_0, Q4_0 and Q4_1, a file
                that is cut short or damaged, an option that is not implemented; the message names it.
        """
        file = gguf.GGUFFile(path)
        values, tensors = gguf_llama.read_llama(file)
        return pretrained.load(cls, config_from_transformers(values), file.path, LLAMA_NAMES, dtype, tensors=tensors)

    def save_pretrained(
        self, folder: str | PathLike, tokenizer: Any = None, max_shard_size: int | str = saving.SHARD_SIZE
    ) -> Path:
        """Write a folder that ``LlamaForCausalLM`` opens, with equal logits.

        Args:
            folder: where to; a folder written so before is replaced.
            tokenizer: the model's own, of the course or of transformers, which ``AutoTokenizer`` then opens.
            max_shard_size: of a file of weights, such as ``"5GB"``, or in bytes; larger ones are divided
                (:func:`~minimllm.weights.saving.write_weights`).

        Raises:
            ValueError: an option that transformers cannot express, by name; and what :func:`~minimllm.weights.saving.save` refuses.
        """
        saving.check_tokenizer(tokenizer, self.config.vocab_size)
        more = dict(generation=generation_to_transformers(self.config), tokenizer=tokenizer, max_shard_size=max_shard_size)
        return saving.save(folder, self, config_to_transformers(self.config), LLAMA_NAMES, **more)


DECODER_NAMES = {
    "tokens": "embed_tokens",
    "blocks.{i}.attention_norm": "layers.{i}.input_layernorm",
    "blocks.{i}.attention.query": "layers.{i}.self_attn.q_proj",
    "blocks.{i}.attention.key": "layers.{i}.self_attn.k_proj",
    "blocks.{i}.attention.value": "layers.{i}.self_attn.v_proj",
    "blocks.{i}.attention.output": "layers.{i}.self_attn.o_proj",
    "blocks.{i}.mlp_norm": "layers.{i}.post_attention_layernorm",
    "blocks.{i}.mlp.gate": "layers.{i}.mlp.gate_proj",
    "blocks.{i}.mlp.up": "layers.{i}.mlp.up_proj",
    "blocks.{i}.mlp.down": "layers.{i}.mlp.down_proj",
    "norm": "norm",
}


def decoder_names(ours: str, *theirs: str, head: tuple[str, ...]) -> pretrained.WeightNames:
    """The table of a decoder that lies at ``ours`` in our model and at one of ``theirs`` in a file, with its output layer at ``head``."""
    table = {f"{ours}{name}": tuple(f"{prefix}{other}" for prefix in theirs) for name, other in DECODER_NAMES.items()}
    return {**table, f"{ours}head": head}


LLAMA_NAMES: pretrained.WeightNames = decoder_names("", "model.", head=("lm_head",))
