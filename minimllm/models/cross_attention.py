"""The other design: pictures enter a decoder through gated cross-attention (Flamingo, Alayrac et al. 2022; Llama 3.2 Vision).

Decoder and gated blocks are numerically equal to ``MllamaForCausalLM`` of transformers, but for tokens that see no picture: here, as in
Meta's code, they get nothing.
"""

from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from minimllm.data.preprocessing import prepare_pictures
from minimllm.data.tokenizer import Tokenizer
from minimllm.layers.attention import KeyValueCache
from minimllm.layers.blocks import GatedCrossAttentionBlock
from minimllm.layers.masks import of_token_before, segment_mask
from minimllm.layers.segments import predecessors, segment_positions, segment_starts
from minimllm.models.cross_attention_config import CrossAttentionConfig
from minimllm.models.language_model import Cache, LanguageModel
from minimllm.models.projector import Projector, check_placeholders, splice
from minimllm.models.text_encoder import check_ids
from minimllm.models.visual_features import check_features, copy_encoder, feature_encoder, visual_features
from minimllm.models.vit import ViT
from minimllm.weights import saving


class CrossAttentionMLLM(nn.Module):
    """An image encoder without its end, a projector, and a decoder with gated blocks between its own, in which words look at pictures.

    All gates are 0 at the start, and the model is then exactly its ``language_model``. With ``config.thumbnail`` that holds for texts
    without a picture alone: the picture's token is then the picture itself, and every later token sees it by self-attention.

    Args:
        config: the sizes.
        seed: of the random weights; the global random state is neither read nor changed.

    Attributes:
        vision: the :class:`~minimllm.models.vit.ViT` up to ``feature_layer``, without head, and without final norm unless
            ``final_norm``.
        projector, language_model: the other parts that the unified design has as well.
        thumbnail: the projector of the whole picture to the one token in the text, if ``config.thumbnail``.
        cross_blocks: the gated blocks, in the order of ``config.cross_before``.
        image_tokens: how many ids stand for a picture in a text: one.
        visual_tokens: how many tokens of a picture the gated blocks look at.
    """

    image_tokens = 1

    def __init__(self, config: CrossAttentionConfig, seed: int = 0):
        super().__init__()
        parts, language = config.unified, config.language
        self.config, self.image_token_id, self.visual_tokens = config, config.image_token_id, parts.image_tokens
        self.vision = feature_encoder(parts, seed)
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(seed)
            self.projector = Projector(parts)
            self.thumbnail = Projector(config.whole) if config.thumbnail else None
            self.cross_blocks = nn.ModuleList(
                GatedCrossAttentionBlock(
                    language.dim,
                    language.heads,
                    language.mlp_dim if config.cross_mlp else None,
                    key_value_heads=config.cross_key_value_heads or language.key_value_heads,
                    head_dim=language.head_dim,
                    norm_eps=language.norm_eps,
                    normalise_heads=config.cross_norm,
                )
                for _ in config.cross_before
            )
        self.language_model = LanguageModel(language, seed)

    def new_cache(self) -> Cache:
        """An empty cache for :meth:`forward`, which fills it; ``cache.pictures["layers"]`` is that of the gated blocks."""
        cache = self.language_model.new_cache()
        cache.pictures["layers"] = [KeyValueCache() for _ in self.cross_blocks]
        return cache

    def copy_encoder(self, encoder: ViT) -> "CrossAttentionMLLM":
        """Take the weights of a trained image encoder, such as ``clip.image_encoder``; what lies behind ``feature_layer`` is left out.

        Raises:
            ValueError: if it has other sizes than this model's ``config.vision``.
        """
        copy_encoder(encoder, self.vision, self.config.unified)
        return self

    def freeze_pretrained(self) -> "CrossAttentionMLLM":
        """Let only what is new learn: the projector and the gated blocks. What the decoder does without pictures then cannot change."""
        self.requires_grad_(False)
        for new in (self.projector, self.thumbnail, self.cross_blocks):
            if new is not None:
                new.requires_grad_(True)
        return self

    def features(self, images: Float[Tensor, "images channels height width"]) -> Float[Tensor, "images tokens feature_dim"]:
        """What the image encoder gives for normalised images, as the projector takes it: ``(images, visual_tokens, feature_dim)``.

        Raises:
            ValueError: images of another size or number of channels, or of integers.
        """
        return visual_features(self.vision, images, self.config.unified)

    def encode(self, images: Float[Tensor, "images channels height width"]) -> Float[Tensor, "images tokens dim"]:
        """What the gated blocks look at: ``(images, visual_tokens, dim)``; errors as :meth:`features`."""
        return self.projector(self.features(images))

    def forward(
        self,
        ids: Int[Tensor, "batch length"],
        images: Float[Tensor, "images channels height width"] | None = None,
        mask: Shaped[Tensor, "batch length"] | None = None,
        cache: Cache | None = None,
        *,
        segments: Int[Tensor, "batch length"] | None = None,
        features: Float[Tensor, "images tokens feature_dim"] | None = None,
        places: tuple[Tensor, Tensor] | None = None,
        only_last: bool = False,
    ) -> Float[Tensor, "*places vocab"]:
        """``(batch, length)`` token ids and images -> ``(batch, length, vocab)`` logits; those at place ``i`` are about token ``i + 1``.

        In the gated blocks a token sees the last picture before it, or the last pictures, if their tokens stand side by side; before the
        first, none.

        Args:
            ids: token ids, with one ``image_token_id`` for each image; with a cache, the new ones only.
            images: normalised, in reading order over the batch; with a cache, at the call whose ids hold their tokens.
            mask: 1 on real tokens, 0 on padding, which may stand anywhere: a row comes out as it would alone.
            cache: of :meth:`new_cache`; extended in place. New tokens see what the last one saw, until a new picture comes.
            segments: rows of several texts about the same pictures (:class:`~minimllm.training.packing.Packed`), in place of ``mask``.
            features: what :meth:`features` gave for the images, in place of ``images``.
            places: the logits of these ``(rows, places)`` alone, ``(n, vocab)``.
            only_last: the logits of the last place alone, ``(batch, 1, vocab)``.

        Raises:
            ValueError: image tokens and images that do not match; ids that are no batch of integers, an empty text, more tokens than
                positions, an id outside the vocabulary, a mask of another shape; images as in :meth:`features`.
        """
        if segments is not None and (mask is not None or cache is not None):
            raise ValueError("segments say what is padding, and are read at once: give them without mask and cache")
        if images is not None and features is not None:
            raise ValueError("got images and features; features are in place of images, give one of them")
        if features is not None:
            check_features(features, self.config.unified)
        decoder, config = self.language_model, self.config.language
        check_ids(ids, mask, config.vocab_size, config.context_length)
        if cache is not None:
            cache.check_rows(len(ids))
        is_image = ids == self.image_token_id if mask is None else (ids == self.image_token_id) & mask.bool()
        check_placeholders(is_image, next((len(given) for given in (images, features) if given is not None), 0), 1)
        read = read_pictures(is_image, segments, None if cache is None else cache.pictures.get("read"), mask)
        features = self.features(images) if images is not None and len(images) else features
        context = self._context(is_image, features)
        visible = None if read.visible.all() else read.visible.repeat_interleave(self.visual_tokens, dim=2)

        x = decoder.tokens(ids)
        if self.thumbnail is not None and context is not None:
            x = splice(x, is_image, self.thumbnail(features.flatten(1)[:, None]))
        attend, positions = (None, None) if segments is None else (segment_mask(segments), segment_positions(segments))
        attend, rotary = decoder.prepare(x, mask, cache, attend, positions)
        if cache is not None:
            cache.pictures["read"] = read

        def look(index: int, x: Tensor) -> Tensor:
            if index not in self.config.cross_before:
                return x
            number = self.config.cross_before.index(index)
            return self.cross_blocks[number](x, context, visible, cache.pictures["layers"][number] if cache else None)

        x = decoder.through_blocks(x, attend, rotary, cache, places, before=look)
        return decoder.logits(x[:, -1:] if only_last and places is None else x)

    def _context(self, is_image: Tensor, features: Tensor | None) -> Float[Tensor, "batch keys dim"] | None:
        """The tokens of the pictures row by row; a row with fewer pictures than others has zeros behind, which nothing sees."""
        if features is None or len(features) == 0:
            return None
        tokens, there = self.projector(features), picture_slots(is_image)
        if not there.all():
            tokens = tokens.new_zeros(*there.shape, *tokens.shape[1:]).index_put((there,), tokens)
        return rearrange(tokens.view(*there.shape, *tokens.shape[-2:]), "b pictures tokens d -> b (pictures tokens) d")

    def picture_inputs(self, images: Any) -> dict[str, Tensor]:
        """Pictures as the model takes them, from floats in [0, 1] of any size or Pillow pictures: ``model(ids, **picture_inputs)``."""
        return {"images": prepare_pictures(self, images).to(self.language_model.tokens.weight)}

    def save_pretrained(
        self, folder: str | PathLike, tokenizer: Tokenizer | None = None, max_shard_size: int | str = saving.SHARD_SIZE
    ) -> Path:
        """Refused, whatever the arguments: transformers has no such model.

        Raises:
            ValueError: always; it says what there is instead.
        """
        raise ValueError(
            "transformers has no model of a CLIP encoder, a projector and gated cross-attention, so a CrossAttentionMLLM cannot be written "
            "for it; LlamaVision is the model of this kind that it has, and minimllm.models.shipped.save keeps this one for "
            "the course's own load"
        )


def picture_bytes(cache: Cache) -> int:
    """Memory of the keys and values of all pictures: ``2 * gated blocks * batch * key_value_heads * pictures * visual_tokens * head_dim``
    numbers. They are computed once, and do not grow with the text.
    """
    kept = [tensor for layer in cache.pictures["layers"] for tensor in (layer.keys, layer.values) if tensor is not None]
    return sum(tensor.numel() * tensor.element_size() for tensor in kept)


class PicturesRead(NamedTuple):
    """Which pictures every token sees, and what the tokens after these need to know.

    Attributes:
        visible: True where a token sees a picture, ``(batch, length, pictures)``.
        numbers: the pictures of each row so far, counted from 0, ``(batch, pictures)``; -1 where a row has fewer.
        count: how many pictures a row has had, ``(batch, 1)``.
        first: number of the first picture of a row's latest run, ``(batch, 1)``; a run is pictures whose tokens stand side by side.
        in_run: True where a row ends with the token of a picture, padding aside, so that the run may go on, ``(batch, 1)``.
    """

    visible: Bool[Tensor, "batch length pictures"]
    numbers: Int[Tensor, "batch pictures"]
    count: Int[Tensor, "batch 1"]
    first: Int[Tensor, "batch 1"]
    in_run: Bool[Tensor, "batch 1"]


def picture_slots(is_image: Bool[Tensor, "batch length"]) -> Bool[Tensor, "batch pictures"]:
    """True for each picture of a row; False behind them, where other rows have more."""
    count = is_image.sum(dim=1, keepdim=True)
    return torch.arange(int(count.max()), device=count.device) < count


def read_pictures(
    is_image: Bool[Tensor, "batch length"],
    segments: Int[Tensor, "batch length"] | None = None,
    earlier: PicturesRead | None = None,
    mask: Shaped[Tensor, "batch length"] | None = None,
) -> PicturesRead:
    """The rule of Llama 3.2 (:func:`~minimllm.layers.masks.cross_attention_mask`), also for what follows earlier texts, and for segments.

    A segment follows the shared prefix, as if the other segments were not there; padding is passed over.
    """
    run = is_image.new_zeros(len(is_image), 1) if earlier is None else earlier.in_run
    around = F.pad(torch.cat([run, is_image], dim=1), (0, 1))  # and a token behind, which the row's end is before
    before = of_token_before(around, None if mask is None else F.pad(mask.bool(), (1, 1), value=True))
    before, in_run = before[:, 1:-1], before[:, -1:]
    if earlier is not None and not is_image.any():  # as at every token that is written: all see what the last one saw
        return earlier._replace(visible=earlier.visible[:, -1:].expand(-1, is_image.shape[1], -1), in_run=in_run)
    if segments is not None:
        before = is_image.gather(1, predecessors(segments))
    there, count = picture_slots(is_image), is_image.cumsum(dim=1)
    numbers = torch.where(there, there.cumsum(dim=1) - 1, -1)
    if earlier is not None:
        numbers = torch.cat([earlier.numbers, torch.where(there, numbers + earlier.count, -1)], dim=1)
        count = count + earlier.count
    first = torch.where(is_image & ~before, count - 1, 0).cummax(dim=1).values
    if earlier is not None:
        first = torch.maximum(first, earlier.first)
    if segments is not None:
        of_prefix = first.masked_fill(segments != 0, 0).amax(dim=1, keepdim=True)
        had = (count - is_image.long()).masked_fill(~segment_starts(segments), 0).cummax(dim=1).values  # pictures before this segment
        first = torch.where(first >= had, first, of_prefix)
    visible = (numbers[:, None] >= first[..., None]) & (numbers[:, None] < count[..., None])
    if segments is not None:
        of_picture = torch.full_like(numbers, -2).masked_scatter(there, segments[is_image])[:, None]
        visible = visible & ((of_picture == 0) | (of_picture == segments[..., None]))
    return PicturesRead(visible, numbers, count[:, -1:], first[:, -1:], in_run)
