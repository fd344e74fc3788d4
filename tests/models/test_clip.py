"""CLIP's own promises: the loss by hand, duplicates, the temperature, the text's end, clear errors, and that it can learn."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from support import largest_difference, randomise, unchecked
from transformers import SiglipConfig, SiglipModel

from minimllm import (
    CLIP,
    CLIPConfig,
    ResNetConfig,
    TextConfig,
    clamp_temperature,
    contrastive_loss,
    gather_embeddings,
    load,
    save,
    siglip_loss,
    sigmoid_loss,
)
from minimllm.layers.masks import causal_mask, padding_mask
from minimllm.models.clip_config import clip_vit
from minimllm.models.resnet import AttentionPooling, Bottleneck
from minimllm.models.text_encoder import end_positions
from minimllm.training.contrastive import clip_loss

IMAGE = clip_vit(image_size=16, patch_size=4, dim=32, layers=2, heads=4, mlp_dim=64)
TEXT = TextConfig(50, context_length=12, dim=32, layers=2, heads=4, mlp_dim=64, eos_token_id=49)
SMALL = CLIPConfig(IMAGE, TEXT, embed_dim=24)
IDS = torch.tensor([[48, 5, 6, 49, 0], [48, 7, 49, 0, 0], [48, 8, 9, 10, 49]])


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


# ---- the loss ----


def test_the_loss_of_three_pairs_by_hand():
    logits = [[2.0, 0.0, 1.0], [0.5, 1.0, 0.0], [0.0, -1.0, 3.0]]

    def surprise(row, right):
        return math.log(sum(math.exp(value) for value in row)) - row[right]

    columns = list(zip(*logits, strict=True))
    rows = sum(surprise(logits[i], i) for i in range(3)) / 3
    both = (rows + sum(surprise(columns[i], i) for i in range(3)) / 3) / 2
    assert contrastive_loss(torch.tensor(logits)).item() == pytest.approx(both, abs=1e-6)
    assert abs(both - rows) > 0.01, "here one direction alone is another number"


def test_the_loss_of_what_knows_nothing_and_of_what_knows_all():
    assert contrastive_loss(torch.zeros(7, 7)).item() == pytest.approx(math.log(7))
    assert contrastive_loss(100 * torch.eye(7)).item() == pytest.approx(0, abs=1e-6)
    assert contrastive_loss(torch.tensor([[3.0]])).item() == 0, "a single pair has no negatives, and nothing to learn"
    logits = torch.randn(6, 6)
    assert contrastive_loss(logits).item() == pytest.approx(contrastive_loss(logits.T).item(), abs=1e-6)
    assert contrastive_loss(logits).item() == pytest.approx(contrastive_loss(logits + 5).item(), abs=1e-5)


def test_duplicates_are_no_negatives():
    logits = torch.randn(5, 5, requires_grad=True)
    captions = torch.tensor([0, 1, 0, 2, 0])
    same = captions[:, None] == captions[None]
    loss = contrastive_loss(logits, same)
    loss.backward()
    own = torch.eye(5, dtype=torch.bool)
    assert (logits.grad[same & ~own] == 0).all(), "nothing pushes a picture away from a caption that is true of it"
    assert (logits.grad[~same] > 0).all() and (logits.grad[own] < 0).all()
    by_hand = 0.0
    for matrix in (logits, logits.T):
        for i in range(5):
            kept = matrix[i][~same[i] | own[i]]
            by_hand += (kept.logsumexp(0) - matrix[i, i]).item() / 10
    assert loss.item() == pytest.approx(by_hand, abs=1e-6)
    assert contrastive_loss(logits, own).item() == contrastive_loss(logits).item()
    assert contrastive_loss(logits, torch.ones(5, 5, dtype=torch.bool)).item() == 0, "all alike: nothing to tell apart, and no NaN"


@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (4,), (0, 0), (2, 2, 2)])
def test_the_loss_refuses_what_is_not_square(shape):
    with unchecked(), pytest.raises(ValueError, match=r"square matrix.*got \(" + ", ".join(map(str, shape))):
        contrastive_loss(torch.zeros(shape))


def test_the_loss_refuses_duplicates_of_another_shape():
    with unchecked(), pytest.raises(ValueError, match=r"\(2, 2\), the similarities have \(3, 3\)"):
        contrastive_loss(torch.zeros(3, 3), torch.ones(2, 2, dtype=torch.bool))


def test_what_a_training_step_computes():
    model, images = randomise(CLIP(SMALL)), torch.randn(3, 3, 16, 16)
    logits = model(images, IDS)
    loss, metrics = clip_loss(model, (images, IDS, None, None))
    assert loss.item() == pytest.approx(contrastive_loss(logits).item())
    assert metrics["accuracy"].item() == pytest.approx((logits.argmax(1) == torch.arange(3)).float().mean().item())
    same = torch.ones(3, 3, dtype=torch.bool)
    loss, metrics = clip_loss(model, (images, IDS, IDS > 0, same), gather=True)
    assert loss.item() == 0 and metrics["accuracy"] == 1, "every text is true of every picture"


def test_training_refuses_a_text_without_an_end():
    images, ids = torch.zeros(2, 3, 16, 16), torch.tensor([[48, 5, 49], [48, 5, 6]])
    model = CLIP(SMALL)
    assert model(images, ids).shape == (2, 2), "the model itself is as lenient as transformers"
    with pytest.raises(ValueError, match=r"text 1 of the batch has no end token \(id 49\): \[48, 5, 6\]"):
        clip_loss(model, (images, ids, None, None))
    with pytest.raises(ValueError, match=r"square matrix.*\(2, 1\)"):
        clip_loss(model, (images, ids[:1], None, None))
    old = CLIP(CLIPConfig(IMAGE, TextConfig(50, 12, 32, 2, 4, 64, eos_token_id=2), embed_dim=24))
    clip_loss(old, (images, ids, None, None))


# ---- SigLIP's loss ----


def test_the_sigmoid_loss_by_hand_and_as_in_transformers():
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.5, -1.0, 0.0], [0.0, -4.0, 3.0]])
    by_hand = sum(math.log(1 + math.exp(logits[i, j] * (-1 if i == j else 1))) for i in range(3) for j in range(3)) / 3
    assert sigmoid_loss(logits).item() == pytest.approx(by_hand, abs=1e-6)
    sizes = dict(hidden_size=16, intermediate_size=20, num_hidden_layers=1, num_attention_heads=2)
    text = dict(**sizes, vocab_size=50, max_position_embeddings=8, projection_size=16)
    model = randomise(SiglipModel(SiglipConfig(text_config=text, vision_config=dict(**sizes, image_size=8, patch_size=4))))
    output = model(input_ids=torch.randint(0, 50, (4, 8)), pixel_values=torch.randn(4, 3, 8, 8), return_loss=True)
    assert sigmoid_loss(output.logits_per_image).item() == pytest.approx(output.loss.item(), rel=1e-6)


def test_every_cell_of_the_sigmoid_loss_is_by_itself():
    logits = torch.randn(4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(sigmoid_loss(logits), logits)
    own = torch.eye(4, dtype=torch.bool)
    assert torch.allclose(gradient, (logits.sigmoid() - own.float()) / 4) and (gradient[own] < 0).all() and (gradient[~own] > 0).all()
    other = logits.detach().clone()
    other[2, 1] += 3.0
    other.requires_grad_()
    (changed,) = torch.autograd.grad(sigmoid_loss(other), other)
    assert (changed != gradient).nonzero().tolist() == [[2, 1]], "in the softmax, a whole row and a whole column"
    assert sigmoid_loss(logits).item() != pytest.approx(sigmoid_loss(logits + 5).item()), "a bias counts here"
    assert torch.isfinite(sigmoid_loss(1e4 * torch.randn(3, 3))) and sigmoid_loss(torch.tensor([[50.0]])).item() < 1e-6


def test_duplicates_are_no_negatives_of_the_sigmoid_loss():
    logits = torch.randn(5, 5, requires_grad=True)
    captions = torch.tensor([0, 1, 0, 2, 0])
    same, own = captions[:, None] == captions[None], torch.eye(5, dtype=torch.bool)
    sigmoid_loss(logits, same).backward()
    assert (logits.grad[same & ~own] == 0).all() and (logits.grad[~same] > 0).all() and (logits.grad[own] < 0).all()
    assert sigmoid_loss(logits, own).item() == sigmoid_loss(logits).item()


@pytest.mark.parametrize("shape", [(2, 3), (4,), (0, 0)])
def test_the_sigmoid_loss_refuses_what_is_not_square(shape):
    with unchecked(), pytest.raises(ValueError, match=r"square matrix.*got \(" + ", ".join(map(str, shape))):
        sigmoid_loss(torch.zeros(shape))
    with unchecked(), pytest.raises(ValueError, match=r"\(2, 2\), the similarities have \(3, 3\)"):
        sigmoid_loss(torch.zeros(3, 3), torch.ones(2, 2, dtype=torch.bool))


def test_a_clip_with_a_bias_learns_from_it(tmp_path):
    model, images = CLIP(replace(SMALL, initial_logit_bias=-10.0, initial_logit_scale=math.log(10))), torch.randn(3, 3, 16, 16)
    cosines = model.encode_image(images) @ model.encode_text(IDS).T
    assert largest_difference(model(images, IDS), 10 * cosines - 10) < 1e-5
    for gather in (False, True):
        loss, metrics = siglip_loss(model, (images, IDS, None, None), gather)
        assert loss.item() == pytest.approx(sigmoid_loss(10 * cosines - 10).item(), rel=1e-5)
        assert metrics["accuracy"] == (cosines.argmax(1) == torch.arange(3)).float().mean()
    loss.backward()
    assert model.logit_bias.grad.item() != 0 and model.logit_scale.grad.item() != 0
    plain = clip_loss(model, (images, IDS, None, None))[0]
    with torch.no_grad():
        model.logit_bias.fill_(3.0)
    assert clip_loss(model, (images, IDS, None, None))[0].item() == pytest.approx(plain.item(), abs=1e-6)
    with pytest.raises(ValueError, match="initial_logit_bias = -10.0, and CLIPModel"):
        model.save_pretrained(tmp_path / "model")
    again, _ = load(save(tmp_path / "kept", model, None, {}))
    assert again.logit_bias.item() == 3.0
    with pytest.raises(ValueError, match="no logit_bias"):
        siglip_loss(CLIP(SMALL), (images, IDS, None, None))


# ---- the temperature ----


def test_the_temperature():
    model = CLIP(SMALL)
    assert model.logit_scale.exp().item() == pytest.approx(1 / 0.07)
    with torch.no_grad():
        model.logit_scale.fill_(10)
    clamp_temperature(model)
    assert model.logit_scale.exp().item() == pytest.approx(100, rel=1e-6) and model.logit_scale.requires_grad
    before = model.logit_scale.item()
    clamp_temperature(model, largest=200)
    assert model.logit_scale.item() == before, "a scale below the limit stays as it is"


def test_the_gradient_of_the_temperature():
    """By the chain rule, from the derivative of the loss by the scale measured with two evaluations."""
    model = randomise(CLIP(SMALL)).double()
    images = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    contrastive_loss(model(images, IDS)).backward()
    with torch.no_grad():
        cosines = model.encode_image(images) @ model.encode_text(IDS).T
        scale, step = model.logit_scale.exp(), 1e-6
        slope = (contrastive_loss(cosines * (scale + step)) - contrastive_loss(cosines * (scale - step))) / (2 * step)
    assert model.logit_scale.grad.item() == pytest.approx((slope * scale).item(), abs=1e-7)


# ---- the encoders ----


def test_embeddings_have_length_one_and_logits_their_cosines():
    model, images = randomise(CLIP(SMALL)), torch.randn(4, 3, 16, 16)
    image, text = model.encode_image(images), model.encode_text(IDS)
    assert largest_difference(image.norm(dim=-1), torch.ones(4)) < 1e-6
    assert largest_difference(text.norm(dim=-1), torch.ones(3)) < 1e-6
    cosines = F.cosine_similarity(image[:, None], text[None], dim=-1)
    assert largest_difference(model(images, IDS), cosines * model.logit_scale.exp()) < 1e-4


def test_end_positions():
    ids = torch.tensor([[1, 7, 9, 9], [1, 9, 5, 9], [9, 1, 5, 6], [1, 5, 6, 7], [1, 99, 9, 0]])
    assert end_positions(ids, 9).tolist() == [2, 1, 0, 0, 2]
    assert end_positions(ids, 2).tolist() == [2, 1, 0, 3, 1], "the old rule: the highest id"


def test_the_text_is_read_forwards_only():
    encoder = randomise(CLIP(SMALL)).text_encoder
    changed = IDS.clone()
    changed[:, 2] = 20
    before, after = encoder.encode(IDS), encoder.encode(changed)
    assert largest_difference(before[:, :2], after[:, :2]) == 0
    assert all((before[:, place] - after[:, place]).abs().max() > 1e-3 for place in (2, 3, 4))
    assert largest_difference(encoder(IDS), torch.stack([before[0, 3], before[1, 2], before[2, 4]])) < 1e-5


def test_masks():
    assert causal_mask(3).tolist() == [[True, False, False], [True, True, False], [True, True, True]]
    assert padding_mask(torch.tensor([[1, 1, 0]])).tolist() == [[[[True, True, False]]]]
    for wrong, message in ((torch.ones(3), r"got \(3,\)"), (torch.ones(1, 2), "float32"), (torch.tensor([[2, 1]]), r"\[1, 2\]")):
        with unchecked(), pytest.raises(ValueError, match=message):
            padding_mask(wrong)


def test_a_batch_equals_its_rows_and_a_seed_its_weights():
    for config in (SMALL, CLIPConfig(ResNetConfig.tiny(width=4), TEXT, embed_dim=24)):
        model = randomise(CLIP(config))
        images = torch.randn(3, 3, *config.image.size)
        assert largest_difference(model.encode_image(images), torch.cat([model.encode_image(image[None]) for image in images])) < 1e-5
        state = torch.get_rng_state()
        a, b, c = CLIP(config, seed=1), CLIP(config, seed=1), CLIP(config, seed=2)
        assert torch.equal(torch.get_rng_state(), state), "the global random state is untouched"
        assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
        for part in ("image_encoder", "text_encoder"):
            pairs = zip(getattr(a, part).parameters(), getattr(c, part).parameters(), strict=True)
            assert any(not torch.equal(p, q) for p, q in pairs)


def test_the_two_tiny_image_encoders_are_of_one_size():
    def parameters(config):
        model = CLIP(config)
        return sum(p.numel() for part in (model.image_encoder, model.image_projection) for p in part.parameters())

    vit, resnet = parameters(CLIPConfig.tiny()), parameters(CLIPConfig.tiny_resnet())
    assert abs(resnet / vit - 1) < 0.03
    assert CLIPConfig.tiny(vocab_size=96, embed_dim=32).text.vocab_size == 96


def test_blur_pooling_averages_where_striding_skips():
    """A fine stripe that a stride of two sees as black or white, depending on its place, is grey wherever it lies."""
    block = Bottleneck(4, 1, stride=2).eval()
    with torch.no_grad():
        for name, parameter in block.named_parameters():
            parameter.copy_(torch.ones_like(parameter) if name.endswith("weight") else torch.zeros_like(parameter))
    stripes = torch.zeros(1, 4, 8, 8)
    stripes[..., ::2] = 1
    moved = stripes.roll(1, -1)
    centre = (slice(None), slice(None), slice(1, 3), slice(1, 3))
    assert largest_difference(block(stripes)[centre], block(moved)[centre]) < 1e-6
    assert not torch.equal(stripes[..., ::2, ::2], moved[..., ::2, ::2])


def test_attention_pooling_weighs_places_by_what_they_show():
    pooling = randomise(AttentionPooling((2, 3), 8, heads=2, output_dim=5), std=0.5)
    x = torch.randn(2, 8, 2, 3)
    tokens = pooling.positions(torch.cat([x.flatten(2).mean(2, keepdim=True), x.flatten(2)], dim=2).mT)
    weights = pooling.attention.weights(tokens[:, :1], tokens)
    assert weights.shape == (2, 2, 1, 7) and weights.std(dim=-1).min() > 0.01
    assert pooling(x).shape == (2, 5)
    moved = pooling(x.roll(1, -1))
    assert largest_difference(pooling(x), moved) > 1e-3, "and by where they are"


@pytest.mark.parametrize("preset", ["tiny", "tiny_resnet"])
def test_it_learns_six_pairs(preset):
    """Random pictures and random texts: only the pairing can tell them apart."""
    model = CLIP(getattr(CLIPConfig, preset)()).train()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(6, 3, 32, 32, generator=generator)
    ids = torch.randint(10, 100, (6, 6), generator=generator)
    ids[:, -1] = 3
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(25):
        loss = contrastive_loss(model(images, ids))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        clamp_temperature(model)
    logits = model(images, ids)
    assert loss.item() < 0.2 and (logits.argmax(0) == torch.arange(6)).all() and (logits.argmax(1) == torch.arange(6)).all()


def test_without_several_processes_gathering_is_nothing():
    embeddings = torch.randn(3, 4, requires_grad=True)
    assert gather_embeddings(embeddings) is embeddings


# ---- clear errors ----

PIXELS = torch.zeros(1, 3, 16, 16)
BAD_INPUT = {
    "another size": (torch.zeros(1, 3, 20, 16), IDS, None, "16 x 16 pixels and got 20 x 16"),
    "channels": (torch.zeros(1, 1, 16, 16), IDS, None, "3 channels, got 1"),
    "bytes": (PIXELS.byte(), IDS, None, "uint8"),
    "not a number": (torch.cat([PIXELS, PIXELS * torch.nan]), IDS, None, r"images \[1\] .*NaN"),
    "infinity": (PIXELS + torch.inf, IDS, None, r"images \[0\] .* not finite"),
    "too long a text": (PIXELS, torch.ones(1, 13, dtype=torch.long), None, "13 tokens long, .* at most 12"),
    "an id outside the vocabulary": (PIXELS, torch.tensor([[48, 50, 49]]), None, "from 48 to 50; .* 0 to 49"),
    "a negative id": (PIXELS, torch.tensor([[48, -100, 49]]), None, "from -100 to 49"),
    "no text": (PIXELS, torch.ones(0, 3, dtype=torch.long), None, r"\(0, 3\)"),
    "an empty text": (PIXELS, torch.ones(1, 0, dtype=torch.long), None, r"\(1, 0\)"),
    "one text alone": (PIXELS, IDS[0], None, r"\(batch, length\), got torch.int64 \(5,\)"),
    "floats for ids": (PIXELS, IDS.float(), None, "integer token ids"),
    "a mask of another shape": (PIXELS, IDS, torch.ones(3, 4), r"mask has shape \(3, 4\)"),
    "an additive mask": (PIXELS, IDS, torch.zeros(3, 5), "bool or integer"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_gets_clear_errors(case):
    images, ids, mask, message = BAD_INPUT[case]
    with unchecked(), pytest.raises(ValueError, match=message):
        CLIP(SMALL)(images, ids, mask)


def test_the_resnet_refuses_other_sizes():
    model = CLIP(CLIPConfig(ResNetConfig.tiny(width=4), TEXT, embed_dim=24))
    for images, message in ((torch.zeros(2, 3, 40, 32), "32 x 32 pixels and got 40 x 32"), (torch.zeros(2, 1, 32, 32), "3 channels")):
        with pytest.raises(ValueError, match=message):
            model.encode_image(images)


@pytest.mark.parametrize(
    "build,message",
    [
        (lambda: CLIPConfig.tiny(embed_dim=0), "embed_dim"),
        (lambda: CLIPConfig.tiny(image_mean=(0.5,)), "image_mean"),
        (lambda: CLIPConfig.tiny(image_std=(0.5, 0.5, 0.0)), "image_std"),
        (lambda: TextConfig(vocab_size=0), "vocab_size"),
        (lambda: TextConfig(context_length=0), "context_length"),
        (lambda: CLIP(CLIPConfig(IMAGE, TextConfig(heads=7))), "7 heads"),
        (lambda: ResNetConfig(image_size=100), "multiple of 32.*got 100"),
        (lambda: ResNetConfig(layers=(3, 0, 1, 1)), "layers"),
        (lambda: ResNetConfig(width=3), "even"),
        (lambda: CLIP(CLIPConfig(ResNetConfig.tiny(heads=5), TEXT)), "5 heads"),
    ],
)
def test_bad_configs_get_clear_errors(build, message):
    with pytest.raises(ValueError, match=message):
        build()
