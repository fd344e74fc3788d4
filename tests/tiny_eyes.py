"""Small random models of lesson 11, on a vocabulary of a few words, for the widgets' tests: in this process and in a notebook's kernel."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from minimllm import THINGS, CrossAttentionConfig, CrossAttentionMLLM, LanguageModelConfig, UnifiedConfig, UnifiedMLLM, ViT, ViTConfig

IMAGE = "<file_sep>"
WORDS = ["<unk>", "<end>", IMAGE, "user", "assistant", ":", "What", "is", "this?", "Where", "<b>", "owl", "red", "tree", "it", "sings"]
TEMPLATE = "{% for m in messages %}{{ m['role'] + ' : ' + m['content'] + ' <end> ' }}{% endfor %}"
TEMPLATE += "{% if add_generation_prompt %}{{ 'assistant :' }}{% endif %}"
VISION = ViTConfig(16, 4, 3, 8, 2, 2, 16, classes=len(THINGS), class_token=False)


def tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="<end>", extra_special_tokens=[IMAGE])
    made.chat_template = TEMPLATE
    return made


def encoder(seed: int = 0) -> ViT:
    """An image encoder whose guesses differ from picture to picture."""
    return randomised(ViT(VISION, seed), seed).eval()


def designs(seed: int = 0) -> dict[str, UnifiedMLLM | CrossAttentionMLLM]:
    """Both designs over one kind of decoder, their gates open."""
    language = LanguageModelConfig(len(WORDS), 16, 2, 2, 24, context_length=200, rotary_base=100.0)
    shared = dict(feature_layer=-1, final_norm=True, projector="linear", projector_bias=False)
    unified = UnifiedMLLM(UnifiedConfig(VISION, language, 2, merge=4, **shared), seed)
    cross = CrossAttentionMLLM(CrossAttentionConfig(VISION, language, 2, (0, 1), cross_mlp=False, merge=2, **shared), seed)
    return {"unified": randomised(unified, seed).eval(), "cross-attention": randomised(cross, seed + 1).eval()}


@torch.no_grad()
def randomised(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        parameter.normal_(float("norm" in name and name.endswith("weight")), 0.5, generator=generator)
        if name.endswith("gate"):
            parameter.fill_(0.8)
    return model
