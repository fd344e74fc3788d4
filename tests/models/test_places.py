"""The end of the last block at some places alone: the same logits and gradients there, and less work."""

import pytest
import torch
from support import largest_difference, randomise
from torch.utils.flop_counter import FlopCounterMode

from minimllm import CrossAttentionConfig, CrossAttentionMLLM, LanguageModel, LanguageModelConfig, UnifiedConfig, UnifiedMLLM

PLACES = torch.tensor([2, 0, 0, 3, 2, 0, 2, 2]), torch.tensor([8, 0, 5, 6, 8, 4, 3, 0])  # ragged, in no order, one twice, none of row 1
IMAGE = 2


def unified(**changes):
    return UnifiedMLLM(UnifiedConfig.course(60, IMAGE, **changes))


def cross(**changes):
    return CrossAttentionMLLM(CrossAttentionConfig.course(60, IMAGE, **changes))


MODELS = {
    "language model": lambda: LanguageModel(LanguageModelConfig.tiny(60)),
    "one block": lambda: LanguageModel(LanguageModelConfig.tiny(60, layers=1, normalise_heads=1e-5)),
    "unified": unified,
    "unified, bidirectional over the picture": lambda: unified(image_prefix=True, shared_position=False),
    "cross-attention": cross,
    "cross-attention in the lower blocks": lambda: cross(cross_before=(0, 1), cross_mlp=True),
}


def inputs(model, length=9, rows=4):
    """A picture at the start of every row but the first, whose picture comes later."""
    ids = torch.randint(3, 60, (rows, length), generator=torch.Generator().manual_seed(1))
    if model.image_token_id is None:
        return {"ids": ids}
    ids[1:, 1 : 1 + model.image_tokens] = IMAGE
    ids[0, 4 : 4 + model.image_tokens] = IMAGE
    return {"ids": ids, "images": torch.randn(rows, 3, 32, 32, generator=torch.Generator().manual_seed(2))}


@pytest.mark.parametrize("name", MODELS)
def test_logits_and_gradients_are_those_of_the_whole_text(name):
    model = randomise(MODELS[name]())
    given, weights = inputs(model), torch.randn(8, 60)

    def at_places():
        if model.image_token_id is not None:
            return model(**given, places=PLACES)
        return model.logits(model.decode(model.tokens(given["ids"]), places=PLACES))

    results = []
    for logits in (model(**given)[PLACES], at_places()):
        model.zero_grad()
        (logits * weights).sum().backward()
        results.append((logits.detach(), {key: each.grad for key, each in model.named_parameters() if each.grad is not None}))
    (whole, gradients), (part, gradients_of_part) = results
    assert largest_difference(part, whole) < 1e-5 * max(1, whole.abs().max().item())
    assert gradients.keys() == gradients_of_part.keys()
    largest = max(gradient.abs().max().item() for gradient in gradients.values())  # sums that nearly vanish are rounded like their parts
    for key, gradient in gradients.items():
        assert largest_difference(gradients_of_part[key], gradient) < 1e-5 * largest, key


def test_the_last_blocks_mlp_computes_no_token_that_is_not_asked_for():
    model = LanguageModel(LanguageModelConfig.tiny(60))
    x, counts = model.tokens(inputs(model)["ids"]), []
    for places in (None, PLACES):
        with FlopCounterMode(display=False) as counter:
            model.decode(x, places=places)
        counts.append(counter.get_total_flops())
    config = model.config
    assert counts[0] - counts[1] == (x.shape[0] * x.shape[1] - len(PLACES[0])) * 2 * 3 * config.dim * config.mlp_dim
