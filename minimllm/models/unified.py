"""The unified embedding decoder (LLaVA, Liu et al. 2023): a picture becomes tokens that stand in the sentence like words.

Numerically equal to ``LlavaForConditionalGeneration`` of transformers with a CLIP vision tower and a Llama decoder; with other options to
SmolVLM and Idefics3 (:mod:`minimllm.models.smolvlm`).
"""

from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from minimllm.data.preprocessing import as_pillow, prepare_pictures
from minimllm.data.splitting import SplitPicture, picture_text, split_pictures
from minimllm.layers.attention import Rotary
from minimllm.layers.masks import same_picture_mask, segment_mask
from minimllm.layers.segments import segment_positions
from minimllm.models import clip, llava, smolvlm
from minimllm.models.language_model import Cache, LanguageModel
from minimllm.models.language_model_config import generation_to_transformers
from minimllm.models.projector import Projector, check_placeholders, splice
from minimllm.models.text_encoder import check_ids
from minimllm.models.unified_config import UnifiedConfig
from minimllm.models.visual_features import check_features, copy_encoder, feature_encoder, visual_features
from minimllm.models.vit import ViT
from minimllm.weights import pretrained, saving


class UnifiedMLLM(nn.Module):
    """An image encoder without its end, a projector, and a decoder that reads the projected tokens between its words.

    Args:
        config: the sizes.
        seed: of the random weights; the global random state is neither read nor changed.

    Attributes:
        vision: the :class:`~minimllm.models.vit.ViT` up to ``feature_layer``, without head, and without final norm unless
            ``final_norm``.
        projector, language_model: the other two parts. What should not learn is frozen with ``model.vision.requires_grad_(False)``; no
            gradients are then computed there.
    """

    def __init__(self, config: UnifiedConfig, seed: int = 0):
        super().__init__()
        self.config, self.image_token_id, self.image_tokens = config, config.image_token_id, config.image_tokens
        self.vision = feature_encoder(config, seed)
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(seed)
            self.projector = Projector(config)
        self.language_model = LanguageModel(config.language, seed)

    def new_cache(self) -> Cache:
        """An empty cache for :meth:`forward`, which fills it."""
        return self.language_model.new_cache()

    def copy_encoder(self, encoder: ViT) -> "UnifiedMLLM":
        """Take the weights of a trained image encoder, such as ``clip.image_encoder``; what lies behind ``feature_layer`` is left out.

        Raises:
            ValueError: if it has other sizes than this model's ``config.vision``.
        """
        copy_encoder(encoder, self.vision, self.config)
        return self

    def features(self, images: Float[Tensor, "images channels height width"]) -> Float[Tensor, "images tokens feature_dim"]:
        """What the image encoder gives for normalised images, as the projector takes it: ``(images, image_tokens, feature_dim)``.

        Raises:
            ValueError: images of another size or number of channels, or of integers.
        """
        return visual_features(self.vision, images, self.config)

    def encode(self, images: Float[Tensor, "images channels height width"]) -> Float[Tensor, "images tokens dim"]:
        """Images as tokens of the decoder: ``(images, image_tokens, dim)``; errors as :meth:`features`."""
        return self.projector(self.features(images))

    def embed(
        self,
        ids: Int[Tensor, "batch length"],
        images: Float[Tensor, "images channels height width"] | None = None,
        features: Float[Tensor, "images tokens feature_dim"] | None = None,
        mask: Shaped[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length dim"]:
        """Words and pictures as one sequence of embeddings; arguments and errors as :meth:`forward`."""
        if images is not None and features is not None:
            raise ValueError("got images and features; features are in place of images, give one of them")
        if features is not None:
            check_features(features, self.config)
        is_image = self.is_image(ids, mask)
        count = next((len(given) for given in (images, features) if given is not None), 0)
        check_placeholders(is_image, count, self.image_tokens)
        x = self.language_model.tokens(ids.masked_fill(ids == self.image_token_id, 0))  # LLaVA's image id need not be in the table
        if count == 0:
            return x
        return splice(x, is_image, self.projector(self.features(images) if features is None else features))

    def is_image(self, ids: Tensor, mask: Tensor | None) -> Bool[Tensor, "batch length"]:
        """True on the placeholders of pictures."""
        return ids == self.image_token_id if mask is None else (ids == self.image_token_id) & mask.bool()

    def prepare(
        self, x: Tensor, ids: Tensor, mask: Tensor | None, cache: Cache | None, segments: Tensor | None
    ) -> tuple[Tensor | None, Rotary]:
        """Which keys each token may attend to, and the rotary angles: what every block of the decoder is given."""
        is_image = self.is_image(ids, mask)
        counted = is_image.cumsum(dim=1) - 1  # visual tokens before this one
        attend = None if segments is None else segment_mask(segments)
        positions = None if segments is None else segment_positions(segments)
        if self.config.shared_position:
            steps = (~is_image | (counted % self.image_tokens == 0)).long()
            if segments is None:
                past = 0 if cache is None else cache.pictures.get("next_position", 0)
                counts = past + (steps if mask is None else steps * mask).cumsum(dim=1)
                positions = (counts - 1).clamp(min=0)
            else:
                positions = segment_positions(segments, steps)
        attend, rotary = self.language_model.prepare(x, mask, cache, attend, positions)
        if cache is not None and self.config.shared_position:
            cache.pictures["next_position"] = counts[:, -1:]
        if self.config.image_prefix and attend is not None:
            same_picture = same_picture_mask((counted // self.image_tokens + 1) * is_image)
            attend = attend | F.pad(same_picture, (attend.shape[-1] - ids.shape[1], 0))
        return attend, rotary

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

        Args:
            ids: token ids, with ``image_tokens`` times ``image_token_id`` for each image; with a cache, the new ones only.
            images: normalised, in reading order over the batch; with a cache, at the call whose ids hold their placeholders.
            mask: 1 on real tokens, 0 on padding, which may stand anywhere: a row comes out as it would alone.
            cache: of :meth:`new_cache`; extended in place.
            segments: rows of several texts about the same pictures (:class:`~minimllm.training.packing.Packed`), in place of ``mask``.
            features: what :meth:`features` gave for the images, in place of ``images``.
            places: the logits of these ``(rows, places)`` alone, ``(n, vocab)``.
            only_last: the logits of the last place alone, ``(batch, 1, vocab)``.

        Raises:
            ValueError: placeholders and images that do not match; ids that are no batch of integers, an empty text, more tokens than
                positions, an id outside the vocabulary, a mask of another shape; images as in :meth:`features`.
        """
        if segments is not None and (mask is not None or cache is not None):
            raise ValueError("segments say what is padding, and are read at once: give them without mask and cache")
        decoder, config = self.language_model, self.config.language
        words = ids.masked_fill(ids == self.image_token_id, 0) if isinstance(ids, Tensor) else ids
        check_ids(words, mask, config.vocab_size, config.context_length)
        x = self.embed(ids, images, features, mask)
        attend, rotary = self.prepare(x, ids, mask, cache, segments)
        x = decoder.through_blocks(x, attend, rotary, cache, places)
        return decoder.logits(x[:, -1:] if only_last and places is None else x)

    def picture_inputs(self, images: Any) -> dict[str, Tensor]:
        """Pictures as the model takes them, whole, from floats in [0, 1] or Pillow pictures: for ``model(ids, **picture_inputs)``."""
        if self.config.preparation.longest_edge is None:
            prepared = prepare_pictures(self, images)
        else:
            prepared = torch.cat([picture.images for picture in self.split_pictures(images, split=False)])
        return {"images": prepared.to(self.language_model.tokens.weight)}

    def split_pictures(self, images: Any, split: bool | None = None) -> list[SplitPicture]:
        """Pictures cut and normalised as the checkpoint asks for (SmolVLM): :func:`~minimllm.data.splitting.split_pictures`.

        Raises:
            ValueError: a model that sees whole pictures; and as there.
        """
        config, how, (height, width) = self.config, self.config.preparation, self.config.vision.size
        if how.longest_edge is None or height != width:
            raise ValueError("this checkpoint does not cut pictures; prepare_pictures prepares them whole")
        images, split = as_pillow(images), how.split if split is None else split
        return split_pictures(images, height, how.longest_edge, split, config.image_mean, config.image_std, preparation=how)

    def chat_pictures(self, images: Any, token: str) -> tuple[list[str], dict[str, Tensor]]:
        """What stands for each picture in a text, in which ``token`` is the image token, and all of them as :meth:`forward` takes them."""
        if self.config.preparation.longest_edge is None:
            return [token * self.image_tokens] * len(images), self.picture_inputs(images)
        pictures = self.split_pictures(images)
        inputs = torch.cat([picture.images for picture in pictures]).to(self.language_model.tokens.weight)
        return [picture_text(picture.rows, picture.columns, self.image_tokens) for picture in pictures], {"images": inputs}

    @classmethod
    def from_pretrained(
        cls, folder: str | PathLike, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> "UnifiedMLLM":
        """Load a folder (or hub name) written by ``save_pretrained`` of ``LlavaForConditionalGeneration``,
        ``SmolVLMForConditionalGeneration`` or ``Idefics3ForConditionalGeneration``.

        Args:
            folder: the folder, with ``config.json`` and safetensors, or the name of a repository on the Hugging Face hub.
            dtype: of the weights; ``None`` keeps the files', or takes the config's where they are of several types.
            device: where to; ``None``: the processor's memory, where the weights are the files' own pages.

        Raises:
            ValueError: another kind of model, an option that is not implemented, a missing, unexpected or wrongly shaped
                tensor, a damaged file; the message names it.
        """
        with pretrained.opened(folder) as folder:
            values = pretrained.read_config(folder, *llava.MODEL_TYPES, *smolvlm.MODEL_TYPES)
            form = smolvlm if values["model_type"] in smolvlm.MODEL_TYPES else llava
            config = form.config_from_transformers(values, folder)
            heads = form.WEIGHT_NAMES["language_model.head"] if config.language.tied else ()
            copies = {f"{head}.weight": "language_model.tokens.weight" for head in heads}
            shapes, unused = clip.file_shapes("vision", config.vision), partial(form.is_unused, config)
            return pretrained.load(cls, config, folder, form.WEIGHT_NAMES, dtype, device, shapes, unused, copies)

    def save_pretrained(
        self, folder: str | PathLike, tokenizer: Any = None, max_shard_size: int | str = saving.SHARD_SIZE
    ) -> Path:
        """Write a folder that ``LlavaForConditionalGeneration`` opens, with equal logits, and with a tokenizer ``AutoProcessor``; or, where
        the image encoder has no class token, ``SmolVLMForConditionalGeneration``.

        The image encoder of a LLaVA's file ends at ``feature_layer``, whose output is then its last; the norm behind it, which transformers
        expects and nothing reads, is written as it would start.

        Args:
            folder: where to; a folder written so before is replaced.
            tokenizer: the model's own, of the course or of transformers, which ``AutoTokenizer`` then opens.
            max_shard_size: of a file of weights, such as ``"5GB"``, or in bytes; larger ones are divided
                (:func:`~minimllm.weights.saving.write_weights`).

        Raises:
            ValueError: an option that transformers cannot express in such a folder, by name; and what
                :func:`~minimllm.weights.saving.save` refuses.
        """
        config, form = self.config, llava if self.config.vision.class_token else smolvlm
        values = form.config_to_transformers(config)
        saving.check_tokenizer(tokenizer, config.language.vocab_size, config.image_token_id)
        pictures = dict(preprocessor=form.pictures_to_transformers(config), processor=form.processor_to_transformers(config))
        more = dict(shapes=clip.file_shapes("vision", config.vision), added=form.unread(self.vision), **pictures)
        more |= dict(generation=generation_to_transformers(config.language), tokenizer=tokenizer, max_shard_size=max_shard_size)
        return saving.save(folder, self, values, form.WEIGHT_NAMES, **more)
