"""A prompt becomes a classifier; preprocessing against Pillow, torchvision and transformers; and the folders of shipped checkpoints."""

import json
import random
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from support import largest_difference, randomise, unchecked
from transformers import CLIPImageProcessor, CLIPImageProcessorPil

from minimllm import CLIP, CLIPConfig, Tokenizer, ViT, ViTConfig, class_weights, load, preprocess, zero_shot
from minimllm.data.words import WORDS
from minimllm.inference.transfer import fill, with_article
from minimllm.models import shipped
from minimllm.models.clip_config import MEAN, STD

TOKENIZER = Tokenizer.from_words([*WORDS, "."])
CLASSES = ["red star", "orange ring", "blue heart"]
CONFIG = CLIPConfig.tiny(vocab_size=TOKENIZER.vocab_size, eos_token_id=TOKENIZER.eos_token_id, image_mean=MEAN, image_std=STD)


@pytest.fixture(scope="module")
def model():
    return randomise(CLIP(CONFIG))


def picture(width, height, mode="RGB", seed=0):
    noise = random.Random(seed)
    return Image.frombytes("RGB", (width, height), noise.randbytes(3 * width * height)).convert(mode)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


# ---- the classifier ----


def test_class_names_become_weights(model):
    templates = ["a {}", "there is a {} at the top left."]
    weights = class_weights(model, TOKENIZER, CLASSES, templates)
    for name, weight in zip(CLASSES, weights, strict=True):
        embeddings = [model.encode_text(*TOKENIZER([template.replace("{}", name)]))[0] for template in templates]
        assert largest_difference(weight, F.normalize((embeddings[0] + embeddings[1]) / 2, dim=0)) < 1e-5
    assert not weights.requires_grad


def test_probabilities_are_the_softmax_of_the_models_own_logits(model):
    images = torch.rand(5, 3, 32, 32)
    probabilities = zero_shot(model, TOKENIZER, images, CLASSES, ["a {}"])
    normalised = (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    with torch.no_grad():
        expected = model(normalised, *TOKENIZER([f"a {name}" for name in CLASSES])).softmax(-1)
    assert largest_difference(probabilities, expected) < 1e-5
    assert largest_difference(zero_shot(model, TOKENIZER, images, CLASSES, "a {}", batch_size=2), expected) < 1e-5
    assert zero_shot(model, TOKENIZER, images, ["red star"]).tolist() == [[1.0]] * 5


def test_templates():
    assert with_article("orange ring") == "an orange ring" and with_article("star") == "a star"
    assert fill("a photo of {}", "cat") == "a photo of cat" and fill(str.upper, "cat") == "CAT"
    for template in ("a photo", "{} and {}"):
        with pytest.raises(ValueError, match="needs one {}"):
            fill(template, "cat")


def test_pictures_of_any_kind_and_size(model):
    pictures = [picture(32, 32), picture(50, 41, "L"), picture(5, 90, "RGBA"), picture(1, 1, "P"), picture(64, 32, "CMYK")]
    together = zero_shot(model, TOKENIZER, pictures, CLASSES)
    assert together.shape == (5, 3) and largest_difference(together.sum(1), torch.ones(5)) < 1e-6
    alone = torch.cat([zero_shot(model, TOKENIZER, one, CLASSES) for one in pictures])
    assert largest_difference(together, alone) < 1e-5
    as_tensor = torch.frombuffer(bytearray(pictures[0].tobytes()), dtype=torch.uint8).view(1, 32, 32, 3).permute(0, 3, 1, 2) / 255
    assert largest_difference(zero_shot(model, TOKENIZER, as_tensor, CLASSES), together[:1]) < 1e-5
    assert zero_shot(model, TOKENIZER, torch.rand(2, 3, 64, 48), CLASSES).shape == (2, 3)


def test_the_models_mode_is_left_alone_and_not_used():
    model = randomise(CLIP(replace(CLIPConfig.tiny_resnet(), text=CONFIG.text))).train()
    images, before = torch.rand(2, 3, 32, 32), {name: buffer.clone() for name, buffer in model.named_buffers()}
    probabilities = zero_shot(model, TOKENIZER, images, CLASSES)
    assert model.training and all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert largest_difference(zero_shot(model.eval(), TOKENIZER, images, CLASSES), probabilities) == 0
    with pytest.raises(ValueError):
        zero_shot(model.train(), TOKENIZER, images, ["zebra"])
    assert model.training


@pytest.mark.parametrize(
    "images,classes,templates,message",
    [
        (torch.rand(2, 3, 32, 32), [], ["{}"], "got 0 classes"),
        (torch.rand(2, 3, 32, 32), CLASSES, [], "0 templates"),
        (torch.rand(2, 3, 32, 32), ["red zebra"], ["{}"], "'zebra'"),
        (torch.rand(2, 3, 32, 32), ["star " * 90], ["{}"], "at most 77"),
        (torch.rand(2, 3, 32, 32) * 255, CLASSES, ["{}"], r"in \[0, 1\].* reach from"),
        (torch.rand(2, 3, 32, 32) - 0.5, CLASSES, ["{}"], r"in \[0, 1\]"),
        (torch.full((2, 3, 32, 32), torch.nan), CLASSES, ["{}"], "nan"),
        (torch.rand(2, 1, 32, 32), CLASSES, ["{}"], "3 channels, got 1"),
        (torch.zeros(2, 3, 32, 32, dtype=torch.uint8), CLASSES, ["{}"], "uint8"),
        (torch.rand(3, 32, 32), CLASSES, ["{}"], r"\(3, 32, 32\)"),
        (torch.rand(0, 3, 32, 32), CLASSES, ["{}"], "no images"),
        ([], CLASSES, ["{}"], "no images"),
        (["star.png"], CLASSES, ["{}"], "Pillow pictures.*str"),
    ],
)
def test_bad_input_gets_clear_errors(images, classes, templates, message, model):
    with unchecked(), pytest.raises(ValueError, match=message):
        zero_shot(model, TOKENIZER, images, classes, templates)


# ---- preprocessing ----


def theirs(image, size, backend=CLIPImageProcessorPil):
    return backend(size={"shortest_edge": size}, crop_size={"height": size, "width": size})(image, return_tensors="pt")["pixel_values"]


@pytest.mark.parametrize("width,height", [(32, 32), (64, 32), (40, 32), (33, 50), (20, 20), (7, 5), (100, 64)])
def test_preprocessing_equals_transformers_where_the_crop_is_even(width, height):
    long = int(32 * max(width, height) / min(width, height))
    assert (long - 32) % 4 != 3
    image = picture(width, height)
    for backend, tolerance in ((CLIPImageProcessorPil, 1e-5), (CLIPImageProcessor, 0.06)):  # the other backend resizes to other bytes
        assert largest_difference(preprocess(image, 32, MEAN, STD), theirs(image, 32, backend)) < tolerance


@pytest.mark.parametrize("excess", range(1, 16))
def test_where_the_crop_differs_from_transformers_by_a_pixel(excess):
    """Half of an odd excess has no middle: transformers rounds down, torchvision (and so OpenAI's own code) to the even neighbour."""
    image = picture(32 + excess, 32)
    ours, reference = preprocess(image, 32, MEAN, STD), theirs(image, 32)
    start = {name: next(i for i in range(excess + 1) if crop_at(image, i, result)) for name, result in (("o", ours), ("t", reference))}
    assert start["o"] == round(excess / 2) and start["t"] == excess // 2
    assert start["o"] - start["t"] == (1 if excess % 4 == 3 else 0)


def crop_at(image, left, result):
    crop = torch.frombuffer(bytearray(image.crop((left, 0, left + 32, 32)).tobytes()), dtype=torch.uint8).view(32, 32, 3)
    expected = (crop.permute(2, 0, 1) / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    return largest_difference(result[0], expected) < 1e-5


def test_an_image_of_31_by_47():
    """The example of the difference that is often met: up to 54 grey levels between two preparations of one picture."""
    image = Image.linear_gradient("L").resize((31, 47)).convert("RGB")
    sizes = {n: (preprocess(image, n, MEAN, STD) - theirs(image, n)).abs().max().item() for n in (29, 30, 31)}
    assert {n for n, value in sizes.items() if value > 1e-3} == {n for n in sizes if (int(n * 47 / 31) - n) % 4 == 3}


def test_tensors_are_resized_as_floats_and_stay_in_range():
    image = (torch.rand(1, 3, 24, 24) > 0.5).float()
    result = preprocess(image, 64, (0.0,) * 3, (1.0,) * 3)
    assert result.min() == 0 and result.max() == 1
    assert torch.equal(preprocess(image, 24, (0.0,) * 3, (1.0,) * 3), image), "nothing to do"
    assert preprocess(picture(9, 9, "RGB"), 8, (0.5,), (0.5,)).shape == (1, 1, 8, 8), "a model of grey images"
    with pytest.raises(ValueError, match="2 channels"):
        preprocess(picture(9, 9), 8, (0.5,) * 2, (0.5,) * 2)


# ---- shipped checkpoints ----


def test_saved_and_loaded(model, tmp_path):
    images, (ids, mask) = torch.randn(2, 3, 32, 32), TOKENIZER(["a red star", "a ring"])
    folder = shipped.save(tmp_path / "clip", model, TOKENIZER, {"seed": 0, "accuracy": 0.5})
    assert sorted(file.name for file in folder.iterdir()) == ["card.json", "config.json", "model.safetensors", "tokenizer.json"]
    loaded, tokenizer = load(folder)
    assert loaded.config == model.config and not loaded.training
    assert largest_difference(loaded(images, ids, mask), model(images, ids, mask)) == 0
    assert torch.equal(tokenizer(["a red star", "a ring"])[0], ids)
    assert shipped.read_card(folder) == {"seed": 0, "accuracy": 0.5}
    shipped.save(folder, model, TOKENIZER, {"seed": 1})
    assert shipped.read_card(str(folder))["seed"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["clip"], "nothing is left beside it"


def test_other_models_are_saved_and_loaded(tmp_path):
    vit = randomise(ViT(ViTConfig.tiny(image_size=(16, 32), classes=5)))
    loaded, tokenizer = load(shipped.save(tmp_path / "vit", vit, None, {}))
    assert tokenizer is None and loaded.config == vit.config
    assert all(torch.equal(p, q) for p, q in zip(loaded.parameters(), vit.parameters(), strict=True))
    resnet = CLIP(CLIPConfig.tiny_resnet())
    resnet(torch.randn(4, 3, 32, 32), torch.tensor([[1, 3]]))  # in training mode: its norms remember this batch
    loaded, _ = load(shipped.save(tmp_path / "resnet", resnet, TOKENIZER, {}))
    assert loaded.config == resnet.config
    assert all(torch.equal(buffer, resnet.get_buffer(name)) for name, buffer in loaded.named_buffers())


def test_a_save_that_fails_leaves_what_was_there(model, tmp_path):
    folder = shipped.save(tmp_path / "clip", model, TOKENIZER, {"seed": 0})
    with pytest.raises(TypeError):
        shipped.save(folder, model, TOKENIZER, {"seed": object()})
    assert load(folder)[0].config == model.config and [path.name for path in tmp_path.iterdir()] == ["clip"]
    with pytest.raises(ValueError, match="Linear with a NoneType cannot be saved"):
        shipped.save(folder, torch.nn.Linear(1, 1), None, {})


def edit(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


DAMAGE = {
    "another type": (lambda f: edit(f / "config.json", lambda c: c.update(type="GPT")), "config.json has type 'GPT'"),
    "an unknown option": (lambda f: edit(f / "config.json", lambda c: c["text"].update(depth=3)), "config.json has the option 'depth'"),
    "a bad value": (lambda f: edit(f / "config.json", lambda c: c.update(embed_dim=0)), "embed_dim must be 1 or more"),
    "a missing value": (lambda f: edit(f / "config.json", lambda c: c.pop("text")), "config.json does not describe a CLIPConfig"),
    "a part of a config": (lambda f: (f / "config.json").write_text('{"type": "TextConfig"}'), "TextConfig, which is a part"),
    "another size": (lambda f: edit(f / "config.json", lambda c: c.update(embed_dim=32)), r"model.safetensors: tensor .*projection"),
    "more layers": (lambda f: edit(f / "config.json", lambda c: c["text"].update(layers=3)), "tensor text_encoder.blocks.2.* is missing"),
    "no config": (lambda f: (f / "config.json").unlink(), "holds no config.json"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "holds no model.safetensors"),
    "cut weights": (lambda f: (f / "model.safetensors").write_bytes(b"12345"), "model.safetensors is damaged"),
    "cut tokenizer": (lambda f: (f / "tokenizer.json").write_text("{"), "tokenizer.json' is no tokenizer file"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_checkpoint_is_named(case, model, tmp_path):
    damage, message = DAMAGE[case]
    folder = shipped.save(tmp_path / "clip", model, TOKENIZER, {})
    damage(folder)
    with pytest.raises(ValueError, match=message):
        load(folder)


def test_unknown_names_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="no checkpoint 'clap' .*vit, clip"):
        load("clap")
    monkeypatch.setattr(shipped, "CHECKPOINTS", tmp_path)
    with pytest.raises(ValueError, match="the checkpoint 'clip' is not in .*make assets"):
        load("clip")
