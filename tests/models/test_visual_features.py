"""Features given in place of pictures: those of the model itself, or a refusal with both shapes."""

import pytest
import torch
from support import largest_difference, unchecked

from minimllm import CrossAttentionConfig, CrossAttentionMLLM, UnifiedConfig, UnifiedMLLM

MODELS = {
    "unified": lambda: UnifiedMLLM(UnifiedConfig.tiny(50)),
    "the course's unified": lambda: UnifiedMLLM(UnifiedConfig.course(50)),
    "cross-attention": lambda: CrossAttentionMLLM(CrossAttentionConfig.tiny(50)),
    "the course's cross-attention": lambda: CrossAttentionMLLM(CrossAttentionConfig.course(50)),
}


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_features_of_another_width_or_number_are_refused_with_both(name):
    model = MODELS[name]().eval()
    images = torch.rand(2, 3, 32, 32)
    ids = torch.tensor([[1, *[2] * model.image_tokens, 5, *[2] * model.image_tokens, 7]])
    features = model.features(images)
    _, tokens, width = features.shape
    assert largest_difference(model(ids, features=features), model(ids, images)) < 1e-5
    for wrong in (
        (2, tokens, width - 1),
        (2, tokens, 2 * width),
        (2, tokens + 1, width),
        (2, width, tokens),
        (2, tokens),
        (2, tokens, width, 1),
    ):
        with unchecked(), pytest.raises(ValueError) as error:
            model(ids, features=torch.rand(wrong))
        assert f"(pictures, {tokens}, {width})" in str(error.value) and f"got {wrong}" in str(error.value)
    with unchecked(), pytest.raises(ValueError, match="1 images"):
        model(ids, features=features[:1])
