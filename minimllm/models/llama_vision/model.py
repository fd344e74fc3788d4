"""Llama 3.2 Vision: a Llama with gated cross-attention to the tiles of pictures, equal to ``MllamaForConditionalGeneration``."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int, Shaped
from PIL import Image
from torch import Tensor, nn

from minimllm.layers.attention import KeyValueCache
from minimllm.layers.blocks import GatedCrossAttentionBlock, check_reference
from minimllm.layers.masks import segment_mask
from minimllm.layers.segments import segment_positions
from minimllm.models.language_model import Cache, LanguageModel
from minimllm.models.language_model_config import generation_to_transformers
from minimllm.models.llama_vision.config import EXTRA_TOKENS, LlamaVisionConfig, config_from_transformers, config_to_transformers
from minimllm.models.llama_vision.names import file_shapes, weight_names
from minimllm.models.llama_vision.pictures import check_pictures, read
from minimllm.models.llama_vision.tiles import Tiles, prepare_tiles
from minimllm.models.llama_vision.vision import TileEncoder
from minimllm.models.text_encoder import check_ids
from minimllm.weights import pretrained, processors, saving


class LlamaVision(nn.Module):
    """An image encoder, a linear layer, and a decoder with blocks between its own in which each token looks at its pictures.

    Args:
        config: the sizes.
        seed: of the random weights; the global random state is neither read nor changed.
    """

    def __init__(self, config: LlamaVisionConfig, seed: int = 0):
        super().__init__()
        self.config, language = config, config.language
        self.vision = TileEncoder(config.vision, seed, config.reference)
        self.language_model = LanguageModel(language, seed)
        heads = dict(key_value_heads=language.key_value_heads, head_dim=language.head_dim, normalise_heads=language.norm_eps)
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(seed)
            if config.extra_tokens:
                self.language_model.tokens = nn.Embedding(config.vocabulary, language.dim)
                nn.init.normal_(self.language_model.tokens.weight, std=language.embedding_std)
            self.projector = nn.Linear(config.vision.features, language.dim)
            self.cross_blocks = nn.ModuleList(
                GatedCrossAttentionBlock(
                    language.dim, language.heads, language.mlp_dim, norm_eps=language.norm_eps, reference=config.reference, **heads
                )
                for _ in config.cross_layers
            )

    @property
    def image_token_id(self) -> int:
        return self.config.image_token_id

    def new_cache(self) -> Cache:
        """An empty cache for :meth:`forward`, which fills it: a layer for every block, of both kinds, in their order."""
        return Cache([KeyValueCache() for _ in range(self.config.layers)])

    def prepare_tiles(self, images: Sequence[Sequence[Image.Image]]) -> Tiles | None:
        """The pictures of every sample, cut and normalised as configured: :func:`~minimllm.models.llama_vision.tiles.prepare_tiles`."""
        config = self.config
        size, most = config.vision.tile_size, config.vision.max_tiles
        return prepare_tiles(images, size, most, config.image_mean, config.image_std, preparation=config.preparation)

    def features(self, tiles: Tiles) -> Float[Tensor, "batch images tiles tokens features"]:
        """What the image encoder makes of the tiles, ``(batch, images, tiles, 1 + patches, features)``, for the projector.

        Where a sample has fewer pictures than others, ``reference="meta"`` has zeros, which no token ever sees; ``"transformers"`` encodes
        these places as well, because there the tokens that see no picture look at everything.
        """
        tiles = tiles.to(self.projector.weight.device, self.projector.weight.dtype)
        there = tiles.aspect_ratio_ids > 0
        if self.config.reference == "transformers":
            there = torch.ones_like(there)
        if not bool(there.any()):
            return tiles.pixel_values.new_zeros(*tiles.pixel_values.shape[:3], self.config.vision.tokens, self.config.vision.features)
        features = self.vision(tiles.pixel_values[there], tiles.aspect_ratio_ids[there], tiles.aspect_ratio_mask[there])
        if bool(there.all()):
            return features.unflatten(0, there.shape)
        return features.new_zeros(*there.shape, *features.shape[1:]).index_put((there,), features)

    def forward(
        self,
        ids: Int[Tensor, "batch length"],
        tiles: Tiles | None = None,
        mask: Shaped[Tensor, "batch length"] | None = None,
        cache: Cache | None = None,
        *,
        segments: Int[Tensor, "batch length"] | None = None,
        features: Float[Tensor, "batch images tiles tokens features"] | None = None,
        places: tuple[Tensor, Tensor] | None = None,
        only_last: bool = False,
    ) -> Float[Tensor, "*places vocab"]:
        """``(batch, length)`` token ids and pictures -> ``(batch, length, vocab)`` logits; those at place ``i`` are about token ``i + 1``.

        A token sees the last picture before it, or the last pictures, if their tokens stand side by side; before the first, none.

        Args:
            ids: token ids, with one ``image_token_id`` for each picture; with a cache, the new ones only.
            tiles: of :func:`~minimllm.models.llama_vision.tiles.prepare_tiles`; with a cache, of the pictures in these ids.
            mask: 1 on real tokens, 0 on padding, which may stand anywhere: a row comes out as it would alone.
            cache: of :meth:`new_cache`; extended in place. New tokens see what the last one saw, until a new picture comes.
            segments: rows of several texts about the same pictures (:class:`~minimllm.training.packing.Packed`), in place of ``mask``.
            features: what :meth:`features` gave for these tiles, which are then not encoded again.
            places: the logits of these ``(rows, places)`` alone, ``(n, vocab)``.
            only_last: the logits of the last place alone, ``(batch, 1, vocab)``.

        Raises:
            ValueError: another number of image tokens than of pictures in a row, tiles or features that do not fit the config, pictures
                within segments, and what the decoder refuses.
        """
        check_ids(ids, mask, self.config.vocabulary, self.config.language.context_length)
        check_pictures(ids, tiles, features, segments, self.config)
        if cache is not None:
            cache.check_rows(len(ids))
        if segments is not None and (mask is not None or cache is not None):
            raise ValueError("segments say what is padding, and are read at once: give them without mask and cache")
        pictures = read(ids, tiles, cache, mask)
        visible = pictures.visible(ids.shape[1], self.config)
        context = None
        if tiles is not None:
            context = self.projector(self.features(tiles) if features is None else features)
            context = rearrange(context, "b images tiles tokens d -> b (images tiles tokens) d")
        decoder = self.language_model
        x = decoder.tokens(ids)
        attend, positions = (None, None) if segments is None else (segment_mask(segments), segment_positions(segments))
        attend, rotary = decoder.prepare(x, mask, cache, attend, positions)
        if cache is not None:
            cache.pictures["read"] = pictures
        layers = [None] * self.config.layers if cache is None else cache.layers
        own, cross = iter(decoder.blocks), iter(self.cross_blocks)
        for number, layer in enumerate(layers):
            if number in self.config.cross_layers:
                x = next(cross)(x, context, visible, layer)
            else:
                x = next(own)(x, attend, rotary, layer)
        x = decoder.norm(x)
        if places is not None:
            return decoder.logits(x[places])
        return decoder.logits(x[:, -1:] if only_last else x)

    @classmethod
    def from_pretrained(
        cls, folder: str | PathLike, dtype: torch.dtype | None = None, reference: str = "meta", device: torch.device | str | None = None
    ) -> "LlamaVision":
        """Load a folder (or hub name) written by ``MllamaForConditionalGeneration.save_pretrained``.

        Weights in the layout of Meta's own files go through :func:`~minimllm.models.llama_vision.meta.from_meta`.

        Args:
            folder: the folder, with ``config.json`` and safetensors, or the name of a repository on the Hugging Face hub.
            dtype: of the weights; ``None`` keeps the files', or takes the config's where they are of several types.
            reference: ``meta`` for what the released weights were trained with, ``transformers`` to get the numbers of transformers 5.
            device: where to; ``None``: the processor's memory, where the weights are the files' own pages.

        Raises:
            ValueError: another kind of model, an option that is not implemented, a missing, unexpected or wrongly shaped
                tensor, a damaged file; the message names it.
        """
        with pretrained.opened(folder) as folder:
            values = pretrained.read_config(folder, "mllama")
            config = config_from_transformers(values, folder, reference)
            return pretrained.load(cls, config, folder, weight_names, dtype, device, file_shapes(config))

    def save_pretrained(
        self,
        folder: str | PathLike,
        tokenizer: Any = None,
        reference: str = "transformers",
        max_shard_size: int | str = saving.SHARD_SIZE,
    ) -> Path:
        """Write a folder that ``MllamaForConditionalGeneration`` opens, and ``MllamaImageProcessor``.

        A tied output layer is written out, and missing rows of the eight behind the vocabulary as zeros.

        Args:
            folder: where to; a folder written so before is replaced.
            tokenizer: the model's own, of the course or of transformers, which ``AutoTokenizer`` then opens.
            reference: whose code will read the folder; it must be the model's own. With ``transformers`` the logits there are equal. A
                folder for ``meta`` has the form of the released weights: :meth:`from_pretrained` reads it, and transformers opens it and
                departs from the model in the same two points as with the released weights.
            max_shard_size: of a file of weights, such as ``"5GB"``, or in bytes; larger ones are divided
                (:func:`~minimllm.weights.saving.write_weights`).

        Raises:
            ValueError: another reference than the model's, an option that transformers cannot express, by name; and what
                :func:`~minimllm.weights.saving.save` refuses.
        """
        config, embedding = self.config, self.language_model.tokens.weight
        check_reference(reference)
        if reference != config.reference:
            raise ValueError(
                f"the model has reference = {config.reference!r}, and the folder is to be read as {reference!r}, which computes other "
                f"logits; say save_pretrained(folder, reference={config.reference!r}) if it is not for transformers, or train a model with "
                f"reference={reference!r}"
            )
        values, vision = config_to_transformers(config), config.vision
        saving.check_tokenizer(tokenizer, config.vocabulary, config.image_token_id)
        rows = embedding.new_zeros(EXTRA_TOKENS - config.extra_tokens, config.language.dim)
        changed = {"language_model.tokens.weight": torch.cat([embedding.detach(), rows])}
        added = {"language_model.lm_head.weight": embedding} if config.language.tied else {}
        size = {"height": vision.tile_size, "width": vision.tile_size}
        pictures = processors.shared_options("MllamaImageProcessor", config.preparation, config.image_mean, config.image_std)
        pictures |= dict(size=size, max_image_tiles=vision.max_tiles, do_resize=True, do_pad=True)
        more = dict(shapes=file_shapes(config), changed=changed, added=added, preprocessor=pictures, tokenizer=tokenizer)
        more |= dict(generation=generation_to_transformers(config.language))
        return saving.save(folder, self, values, weight_names(config), **more, max_shard_size=max_shard_size)
