"""A decoder of transformers with cross-attention, ``MllamaForCausalLM``, of the sizes and with the weights of one of ours."""

import torch
from torch import Tensor, nn
from transformers import MllamaForCausalLM, MllamaTextConfig
from transformers.models.mllama.modeling_mllama import _prepare_cross_attention_mask

from minimllm import CrossAttentionConfig, CrossAttentionMLLM
from minimllm.models.language_model import DECODER_NAMES
from minimllm.models.llama_vision.names import CROSS_BLOCK_NAMES
from minimllm.weights.pretrained import file_names


def mllama(config: CrossAttentionConfig, attention: str = "sdpa") -> MllamaForCausalLM:
    """Random weights, all gates at 0, as transformers makes them."""
    language = config.language
    theirs = MllamaTextConfig(
        vocab_size=language.vocab_size,
        hidden_size=language.dim,
        num_hidden_layers=language.layers + len(config.cross_before),
        num_attention_heads=language.heads,
        num_key_value_heads=language.key_value_heads,
        intermediate_size=language.mlp_dim,
        max_position_embeddings=language.context_length,
        rms_norm_eps=language.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": language.rotary_base},
        cross_attention_layers=[before + number for number, before in enumerate(config.cross_before)],
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    theirs._attn_implementation = attention
    return MllamaForCausalLM(theirs)


def names(config: CrossAttentionConfig) -> dict[str, tuple[str, ...]]:
    """Our names and theirs, where blocks of both kinds are numbered through."""
    table = {"language_model.head": ("lm_head",)}
    own = [index + sum(before <= index for before in config.cross_before) for index in range(config.language.layers)]
    cross = [before + number for number, before in enumerate(config.cross_before)]
    for ours, theirs in DECODER_NAMES.items():
        for index, number in enumerate(own if "{i}" in ours else [0]):
            table[f"language_model.{ours}".format(i=index)] = (f"model.{theirs}".format(i=number),)
    for ours, theirs in CROSS_BLOCK_NAMES.items():
        for index, number in enumerate(cross):
            table[f"cross_blocks.{index}.{ours}"] = (f"model.layers.{number}.{theirs}",)
    return table


def counterparts(ours: CrossAttentionMLLM, theirs: MllamaForCausalLM) -> list[tuple[str, nn.Parameter, nn.Parameter]]:
    """Every parameter of the decoder and the gated blocks, beside theirs; that all of theirs are there is checked."""
    table, reference = names(ours.config), dict(theirs.named_parameters())
    pairs = [
        (name, parameter, reference.pop(file_names(name, table)[0]))
        for name, parameter in ours.named_parameters()
        if name.startswith(("language_model.", "cross_blocks."))
    ]
    assert not reference, f"without counterpart: {list(reference)}"
    return pairs


@torch.no_grad()
def take_weights(ours: CrossAttentionMLLM, theirs: MllamaForCausalLM) -> CrossAttentionMLLM:
    """Copy theirs into ours; their table of embeddings has eight rows more. Pictures go through our projector unchanged."""
    for _, parameter, reference in counterparts(ours, theirs):
        parameter.copy_(reference[: len(parameter)])
    ours.projector.down.weight.copy_(torch.eye(*ours.projector.down.weight.shape))
    ours.projector.down.bias.zero_()
    return ours


def cross_arguments(visible: Tensor, tokens: int) -> dict[str, Tensor]:
    """``(batch, length, images)``, True where a token sees an image, as their decoder takes it."""
    mask, rows = _prepare_cross_attention_mask(visible[..., None].long(), tokens, torch.float32)
    return {"cross_attention_mask": mask, "full_text_row_masked_out_mask": rows}


def as_meta(theirs: MllamaForCausalLM) -> MllamaForCausalLM:
    """As Meta's code has it: a token that sees no picture gets nothing from the attention either."""

    def keep(module, arguments, keywords, output):
        return output[0] * module.sees, *output[1:]

    def note(module, arguments, keywords):
        module.cross_attn.sees = keywords["full_text_row_masked_out_mask"][:, 0]

    for number in theirs.config.cross_attention_layers:
        theirs.model.layers[number].register_forward_pre_hook(note, with_kwargs=True)
        theirs.model.layers[number].cross_attn.register_forward_hook(keep, with_kwargs=True)
    return theirs
