"""How a checkpoint wants its pictures: prepared to the last bit as its processor in transformers does, written so, or refused by name."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from support import largest_difference, unchecked
from transformers import AutoImageProcessor

from minimllm import (
    CLIP,
    CLIPConfig,
    CrossAttentionConfig,
    CrossAttentionMLLM,
    LanguageModel,
    LanguageModelConfig,
    LlamaVision,
    LlamaVisionConfig,
    Preparation,
    Tokenizer,
    UnifiedConfig,
    UnifiedMLLM,
    ViT,
    ViTConfig,
    clip_vit,
    load,
    prepare_pictures,
    preprocess,
    save,
    zero_shot,
)
from minimllm.data.pictures import to_rgb
from minimllm.inference.answering import picture_inputs

SIDE = 32
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 1.0)
TOKENIZER = Tokenizer.from_texts(["what colour is the star ? red blue"])
MODELS = {
    "clip": lambda: CLIP(CLIPConfig.tiny(TOKENIZER.vocab_size, image_mean=MEAN, image_std=STD)),
    "llava": lambda: UnifiedMLLM(UnifiedConfig.tiny(TOKENIZER.vocab_size, TOKENIZER.image_token_id, image_mean=MEAN, image_std=STD)),
    "vit": lambda: ViT(ViTConfig.tiny(image_mean=MEAN, image_std=STD)),
    "oblong vit": lambda: ViT(ViTConfig.tiny(image_size=(32, 48), image_mean=MEAN, image_std=STD)),
    "mllama": (lambda: LlamaVision(LlamaVisionConfig.tiny(TOKENIZER.vocab_size, reference="transformers", image_mean=MEAN, image_std=STD))),
}


def noise(height, width, mode="RGB", seed=0):
    pixels = np.random.default_rng(seed + 1000 * height + width).integers(0, 256, (height, width, 4), dtype=np.uint8)
    image = Image.fromarray(pixels)
    return image.convert("RGB").convert(mode) if mode != "RGBA" else image


# Excesses of the crop: even, odd, and 3 modulo 4, where OpenAI's own crop lies elsewhere; shrunk and enlarged, extreme, and one to spare.
SIZES = [(32, 32), (64, 32), (32, 35), (41, 50), (50, 41), (20, 33), (7, 5), (1, 9), (300, 7), (33, 100)]
PICTURES = [noise(*size) for size in SIZES] + [noise(40, 51, "RGBA"), noise(51, 40, "L"), noise(47, 36, "P"), noise(36, 43, "CMYK")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: build().save_pretrained(tmp_path_factory.mktemp("models") / "model") for name, build in MODELS.items()}


def opened(folders, name, tmp_path, changes, file="preprocessor_config.json"):
    """The model and transformers' processor of a folder whose options are changed; ``None`` takes one away."""
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    for path in folders[name].iterdir():
        if path.name != "preprocessor_config.json" and not (folder / path.name).exists():
            (folder / path.name).symlink_to(path)
    values = json.loads((folders[name] / "preprocessor_config.json").read_text()) | changes
    values = {option: value for option, value in values.items() if value != "left out"}
    (folder / file).write_text(json.dumps(values if file == "preprocessor_config.json" else {"image_processor": values}))
    return read(name, folder), AutoImageProcessor.from_pretrained(folder, backend="pil")


def read(name, folder):
    kinds = {"clip": CLIP, "llava": UnifiedMLLM, "vit": ViT, "oblong vit": ViT}
    return LlamaVision.from_pretrained(folder, reference="transformers") if name == "mllama" else kinds[name].from_pretrained(folder)


def theirs(processor, pictures):
    return torch.cat([processor(picture, return_tensors="pt")["pixel_values"].float() for picture in pictures])


OPTIONS = {
    "as it was saved": {},
    "not normalised": dict(do_normalize=False),
    "bytes": dict(do_rescale=False),
    "bytes, not normalised": dict(do_rescale=False, do_normalize=False),
    "to [0, 2]": dict(rescale_factor=1 / 127.5),
    "the default factor": dict(rescale_factor="left out"),
    "null is false": dict(do_rescale=None, do_normalize=None, rescale_factor=None, image_mean=None),
    "steps left out": dict.fromkeys(("do_resize", "do_rescale", "do_normalize", "do_center_crop", "do_convert_rgb"), "left out"),
    "other statistics": dict(image_mean=[0.1, 0.2, 0.3], image_std=[1, 2, 3]),
    "the statistics of the processor": dict(image_mean="left out", image_std="left out"),
    **{f"filter {number}": dict(resample=number) for number in range(6)},
    "the filter of the processor": dict(resample="left out"),
    "the older name of the processor": lambda name: dict(image_processor_type="left out", feature_extractor_type=f"{name}FeatureExtractor"),
    "the faster processor": lambda name: dict(image_processor_type=f"{name}ImageProcessorFast"),
    "no processor named": dict(image_processor_type="left out"),
}
CROPPED = {
    "shorter side as a number": dict(size=SIDE),
    "larger than the crop": dict(size={"shortest_edge": 36}),
    "smaller than the crop": dict(size={"shortest_edge": 20}),
    "stretched": dict(size={"height": SIDE, "width": SIDE}, do_center_crop=False),
    "stretched as a list": dict(size=[SIDE, SIDE], do_center_crop=False),
    "stretched as one number": dict(size=SIDE, default_to_square=True, do_center_crop=False),
    "stretched, then cropped": dict(size={"height": 40, "width": 51}),
    "higher than the crop, less wide": dict(size={"height": 47, "width": 21}),
    "not resized": dict(do_resize=False),
    "crop as a number": dict(crop_size=SIDE),
    "crop of the processor": dict(do_center_crop=True, crop_size={"height": SIDE, "width": SIDE}, do_pad=True),
}
WHOLE = {
    "not as a mapping": dict(size=SIDE),
    "cut out of something larger": dict(size={"height": 47, "width": 39}, do_center_crop=True),
    "cut out of a shorter side": dict(size={"shortest_edge": 39}, do_center_crop=True),
}
CASES = [("clip", case) for case in OPTIONS | CROPPED] + [("llava", case) for case in OPTIONS | CROPPED | {"made square": 0}]
CASES += [("vit", case) for case in OPTIONS | WHOLE] + [("oblong vit", case) for case in OPTIONS]
SQUARED = {"made square": dict(do_pad=True, image_processor_type="LlavaImageProcessor")}
NAMES = {"clip": "CLIP", "llava": "CLIP", "vit": "ViT", "oblong vit": "ViT", "mllama": "Mllama"}


@pytest.mark.parametrize("name, case", CASES)
def test_every_option_gives_the_pictures_of_transformers(name, case, folders, tmp_path):
    changes = (OPTIONS | CROPPED | WHOLE | SQUARED)[case]
    model, processor = opened(folders, name, tmp_path, changes(NAMES[name]) if callable(changes) else changes)
    pictures = PICTURES[: len(SIZES)] if "vit" in name else PICTURES  # their processor of ViTs does not convert other modes
    assert torch.equal(prepare_pictures(model, pictures), theirs(processor, pictures))
    again = read(name, model.save_pretrained(tmp_path / "again"))
    assert again.config == model.config
    assert torch.equal(prepare_pictures(again, pictures), prepare_pictures(model, pictures))
    written = AutoImageProcessor.from_pretrained(tmp_path / "again", backend="pil")
    assert torch.equal(theirs(written, pictures), prepare_pictures(model, pictures))


@pytest.mark.parametrize("case", OPTIONS)
def test_tiles_follow_the_options(case, folders, tmp_path):
    changes = OPTIONS[case](NAMES["mllama"]) if callable(OPTIONS[case]) else OPTIONS[case]
    if "feature_extractor_type" in changes:
        return  # there never was one
    model, processor = opened(folders, "mllama", tmp_path, changes)
    expected = processor([PICTURES[:9], PICTURES[9:]], return_tensors="pt")
    size = expected["pixel_values"].abs().max().item()
    ours = model.prepare_tiles([PICTURES[:9], PICTURES[9:]])
    assert largest_difference(ours.pixel_values, expected["pixel_values"]) < 2e-7 * max(size, 4)
    assert torch.equal(ours.aspect_ratio_ids, expected["aspect_ratio_ids"])
    again = read("mllama", model.save_pretrained(tmp_path / "again"))
    assert again.config == model.config
    written = AutoImageProcessor.from_pretrained(tmp_path / "again", backend="pil")([PICTURES[:9], PICTURES[9:]], return_tensors="pt")
    assert torch.equal(written["pixel_values"], expected["pixel_values"])


@pytest.mark.parametrize("name", ["clip", "llava", "vit"])
def test_the_processor_that_does_not_use_pillow_differs_by_its_resizing_alone(name, folders, tmp_path):
    model, _ = opened(folders, name, tmp_path, {})
    processor = AutoImageProcessor.from_pretrained(tmp_path / name, backend="torchvision")
    same = [noise(SIDE, SIDE, seed=5)]
    assert largest_difference(prepare_pictures(model, same), theirs(processor, same)) < 1e-5
    smooth = [Image.effect_mandelbrot((64, 50), (-2, -1.5, 1, 1.5), 60).convert("RGB")]
    assert largest_difference(prepare_pictures(model, smooth), theirs(processor, smooth)) < 0.06


def test_the_newer_file_goes_first(folders, tmp_path):
    opened(folders, "clip", tmp_path, dict(size={"shortest_edge": 50}))
    model, processor = opened(folders, "clip", tmp_path, dict(size={"shortest_edge": 36}, resample=2), "processor_config.json")
    assert model.config.preparation == Preparation(size=36, resample=2)
    assert torch.equal(prepare_pictures(model, PICTURES), theirs(processor, PICTURES))


REFUSED = [
    ("clip", dict(crop_size={"height": 36, "width": 36}), "crop_size = {'height': 36, 'width': 36}, and the model takes images of 32 x 32"),
    ("clip", dict(crop_size=[32, 48]), "crop_size = [32, 48]"),
    ("clip", dict(size={"shortest_edge": 36}, do_center_crop=False), "size = {'shortest_edge': 36}, with do_center_crop = False"),
    ("clip", dict(size={"height": 32, "width": 48}, do_center_crop=False), "size = {'height': 32, 'width': 48}"),
    ("clip", dict(size={"longest_edge": 36}), "size = {'longest_edge': 36}, which is not implemented"),
    ("clip", dict(size={"shortest_edge": 32, "longest_edge": 64}), "size = {'shortest_edge': 32, 'longest_edge': 64}"),
    ("clip", dict(size={"shortest_edge": 36.5}), "size = {'shortest_edge': 36.5}"),
    ("clip", dict(size={"shortest_edge": True}), "size = {'shortest_edge': True}"),
    ("clip", dict(size={"shortest_edge": 0}), "size = {'shortest_edge': 0}"),
    ("clip", dict(size="32"), "size = '32'"),
    ("clip", dict(size=[32]), "size = [32]"),
    ("clip", dict(do_center_crop=1), "do_center_crop = 1, expected true or false"),
    ("clip", dict(do_resize="yes"), "do_resize = 'yes'"),
    ("clip", dict(resample=6), "resample = 6"),
    ("clip", dict(resample="bicubic"), "resample = 'bicubic'"),
    ("clip", dict(rescale_factor=0), "rescale_factor = 0"),
    ("clip", dict(rescale_factor="1/255"), "rescale_factor = '1/255'"),
    ("clip", dict(rescale_factor=None), "rescale_factor = None"),
    ("clip", dict(image_mean=None), "image_mean = None"),
    ("clip", dict(image_mean=0.5), "image_mean = 0.5"),
    ("clip", dict(resample=None), "resample = None"),
    ("clip", dict(size=None), "size = None"),
    ("clip", dict(image_std=[1, 0, 1]), "image_std = [1, 0, 1]"),
    ("clip", dict(image_mean=[0.5]), "image_mean = [0.5]"),
    ("clip", dict(do_pad=True, pad_size={"height": 40, "width": 40}), "do_pad = True"),
    ("clip", dict(do_pad=True, do_center_crop=False), "do_pad = True"),
    ("clip", dict(image_processor_type="SiglipImageProcessor"), "image_processor_type = 'SiglipImageProcessor', which is not implemented"),
    ("clip", dict(image_processor_type="MllamaImageProcessor"), "image_processor_type = 'MllamaImageProcessor'"),
    ("vit", dict(size={"height": 48, "width": 32}), "size = {'height': 48, 'width': 32}"),
    ("vit", dict(image_processor_type="left out", feature_extractor_type="BeitFeatureExtractor"), "feature_extractor_type = 'BeitF"),
    ("oblong vit", dict(size={"height": 48, "width": 32}), "the model takes images of 32 x 48 pixels"),
    ("oblong vit", dict(do_center_crop=True, crop_size=[48, 32]), "crop_size = [48, 32]"),
    ("llava", dict(crop_size={"height": 36, "width": 36}), "crop_size"),
    ("mllama", dict(max_image_tiles=2), "max_image_tiles = 2, and the model numbers the arrangements of at most 4"),
    ("mllama", dict(size={"height": 48, "width": 48}), "size = {'height': 48, 'width': 48}, and the model has tiles of 32 x 32"),
    ("mllama", dict(size={"shortest_edge": 32}), "size = {'shortest_edge': 32}"),
    ("mllama", dict(do_pad=False), "do_pad = False"),
    ("mllama", dict(do_resize=False), "do_resize = False"),
    ("mllama", dict(image_processor_type="CLIPImageProcessor"), "image_processor_type = 'CLIPImageProcessor'"),
]


@pytest.mark.parametrize("name, changes, words", REFUSED)
def test_what_cannot_be_followed_is_refused_by_file_option_and_value(name, changes, words, folders, tmp_path):
    with pytest.raises(ValueError) as error:
        try:
            opened(folders, name, tmp_path, changes)
        finally:
            assert (tmp_path / name / "preprocessor_config.json").exists()
    assert "preprocessor_config.json has " in str(error.value) and words in str(error.value), str(error.value)


def test_a_picture_that_does_not_come_out_at_the_models_size_is_refused(folders, tmp_path):
    model, processor = opened(folders, "clip", tmp_path, dict(do_center_crop=False))
    assert torch.equal(prepare_pictures(model, noise(70, 70)), theirs(processor, [noise(70, 70)]))
    with pytest.raises(ValueError, match=r"picture 1: 40 x 50 pixels become 32 x 40 .*do_center_crop = False.* takes 32 x 32"):
        prepare_pictures(model, [noise(32, 32), noise(40, 50)])
    model, processor = opened(folders, "vit", tmp_path, dict(do_resize=False))
    assert torch.equal(prepare_pictures(model, noise(32, 32)), theirs(processor, [noise(32, 32)]))
    with pytest.raises(ValueError, match=r"picture 0: 33 x 32 pixels .*do_resize = False"):
        prepare_pictures(model, noise(33, 32))
    with pytest.raises(ValueError, match="images: 64 x 48 pixels become 64 x 48"):
        prepare_pictures(model, torch.rand(2, 3, 64, 48))


@pytest.mark.parametrize("name", ["clip", "llava", "vit", "mllama"])
def test_without_conversion_other_modes_are_refused(name, folders, tmp_path):
    model, _ = opened(folders, name, tmp_path, dict(do_convert_rgb=False))
    prepare = (lambda picture: model.prepare_tiles([[picture]])) if name == "mllama" else (lambda picture: prepare_pictures(model, picture))
    assert prepare(noise(40, 51)) is not None
    for mode in ("L", "RGBA", "P"):
        with pytest.raises(ValueError, match=f"mode {mode}, .*do_convert_rgb = False"):
            prepare(noise(40, 51, mode))
    again = read(name, model.save_pretrained(tmp_path / "again"))
    assert again.config == model.config and not again.config.preparation.convert_rgb


def test_grey_models_take_grey_and_coloured_pictures(tmp_path):
    image = clip_vit(image_size=SIDE, patch_size=8, channels=1, dim=16, layers=1, heads=2, mlp_dim=24)
    model = CLIP(CLIPConfig.tiny(TOKENIZER.vocab_size, image=image, image_mean=(0.3,), image_std=(0.5,)))
    folder = model.save_pretrained(tmp_path / "grey")
    grey = [noise(*size, "L") for size in SIZES]
    assert torch.equal(prepare_pictures(model, grey), theirs(AutoImageProcessor.from_pretrained(folder, backend="pil"), grey))
    again = CLIP.from_pretrained(folder)
    assert again.config.preparation == model.config.preparation
    assert torch.equal(
        prepare_pictures(again, PICTURES),
        prepare_pictures(
            model, [picture.convert("L") for picture in PICTURES[:10]] + [to_rgb(picture).convert("L") for picture in PICTURES[10:]]
        ),
    )


def test_tensors_follow_the_options_too(folders, tmp_path):
    pictures = F.interpolate(torch.rand(2, 3, 5, 6), (41, 50), mode="bilinear") * 0.8 + 0.1  # smooth: they cut off between two passes
    for changes in (dict(do_rescale=False), dict(size={"shortest_edge": 36}), SQUARED["made square"], dict(resample=0), dict(resample=1)):
        model, processor = opened(folders, "clip", tmp_path, changes)
        as_bytes = pictures.mul(255).round()
        shown = [Image.fromarray(image.permute(1, 2, 0).byte().numpy()) for image in as_bytes]
        difference = prepare_pictures(model, as_bytes / 255) - theirs(processor, shown)
        step = 1.5 * model.config.preparation.rescale_factor / min(model.config.image_std)  # they resize bytes, and round twice
        assert difference.abs().max() < step, changes
        assert torch.equal(prepare_pictures(model, list(pictures)), prepare_pictures(model, pictures))
        assert prepare_pictures(model, pictures.double()).dtype == torch.float64


def test_models_use_it_and_nothing_else(folders, tmp_path, monkeypatch):
    changes = dict(size={"shortest_edge": 50}, resample=0, image_mean=[0.1, 0.2, 0.3])
    llava, _ = opened(folders, "llava", tmp_path, changes)
    assert torch.equal(picture_inputs(llava, PICTURES)["images"], prepare_pictures(llava, PICTURES))
    config = CrossAttentionConfig.tiny(TOKENIZER.vocab_size, preparation=llava.config.preparation, image_mean=llava.config.image_mean)
    tap = CrossAttentionMLLM(config)
    assert torch.equal(picture_inputs(tap, PICTURES)["images"], prepare_pictures(tap, PICTURES))
    clip, processor = opened(folders, "clip", tmp_path, changes)
    seen = []
    monkeypatch.setattr(clip, "encode_image", lambda images: seen.append(images) or torch.ones(len(images), clip.config.embed_dim))
    zero_shot(clip, TOKENIZER, PICTURES, ["red", "blue"], templates=["{}"])
    assert torch.equal(seen[0], theirs(processor, PICTURES))


def test_the_courses_own_form_keeps_them(tmp_path):
    model = CLIP(CLIPConfig.tiny(TOKENIZER.vocab_size, preparation=Preparation(size=(40, 51), resample=1, pad=True)))
    again, _ = load(save(tmp_path / "clip", model, TOKENIZER, {}))
    assert again.config == model.config
    vit = ViT(ViTConfig.tiny(image_size=(32, 48), image_mean=MEAN, image_std=STD))
    again, _ = load(save(tmp_path / "vit", vit, None, {}))
    assert again.config == vit.config and prepare_pictures(again, PICTURES).shape == (len(PICTURES), 3, 32, 48)


def test_the_defaults_are_openais_but_for_the_place_of_the_crop():
    model = CLIP(CLIPConfig.tiny(TOKENIZER.vocab_size))
    expected = preprocess(PICTURES[0], SIDE, model.config.image_mean, model.config.image_std)
    assert torch.equal(prepare_pictures(model, PICTURES[0]), expected)
    even = noise(32, 36)
    assert torch.equal(prepare_pictures(model, even), preprocess(even, SIDE, model.config.image_mean, model.config.image_std))
    shipped, _ = load("vit")
    assert torch.equal(prepare_pictures(shipped, PICTURES[0]), preprocess(PICTURES[0], SIDE, (0.5,) * 3, (0.5,) * 3))


def test_models_that_see_no_whole_pictures_say_so():
    llama = LlamaVision(LlamaVisionConfig.tiny(TOKENIZER.vocab_size))
    for model, words in ((llama, "tiles: model.prepare_tiles"), (LanguageModel(LanguageModelConfig.tiny(20)), "sees no pictures")):
        with pytest.raises(ValueError, match=words):
            prepare_pictures(model, PICTURES)
    with unchecked(), pytest.raises(ValueError, match="resample must be one of"):
        Preparation(resample=9)
