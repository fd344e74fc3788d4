"""From a photograph to an answer in one call: SmolVLM's prompt and pictures are those of its processor in transformers."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from support import largest_difference, randomise
from test_chat import IMAGE, TEXTS, tokenizer_of, user
from transformers import AutoProcessor, SmolVLMConfig, SmolVLMForConditionalGeneration
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
from transformers.models.smolvlm.processing_smolvlm import DEFAULT_CHAT_TEMPLATE, SmolVLMProcessor
from transformers.models.smolvlm.video_processing_smolvlm import SmolVLMVideoProcessor

from minimllm import UnifiedMLLM, chat, prepare_pictures
from minimllm.inference.answering import picture_inputs

MARKERS = ["<fake_token_around_image>", "<global-img>", *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))]
TOKENIZER = tokenizer_of(
    DEFAULT_CHAT_TEMPLATE,
    starts=False,
    eos_token="<end_of_utterance>",
    bos_token="<|im_start|>",
    extra_special_tokens=["<|end|>", IMAGE, *MARKERS],
)
VISION = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=16, patch_size=4)
TEXT = dict(model_type="llama", hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
TEXT |= dict(vocab_size=320, max_position_embeddings=2048, pad_token_id=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smolvlm")
    token = TOKENIZER.convert_tokens_to_ids(IMAGE)
    config = SmolVLMConfig(vision_config=VISION, text_config=TEXT, image_token_id=token, scale_factor=2)
    randomise(SmolVLMForConditionalGeneration(config)).save_pretrained(folder)
    return folder


def with_options(folder, tmp_path, name="preprocessor_config.json", **options):
    """The model with a file that says how pictures are prepared."""
    for file in folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / name).write_text(json.dumps(options))
    return UnifiedMLLM.from_pretrained(tmp_path)


def noise(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def image(text=None):
    return {"type": "image"} if text is None else {"type": "text", "text": text}


def heard(model, *arguments, **options):
    """The reply, and the ids and images that the model was first given."""
    seen = []
    handle = model.register_forward_pre_hook(lambda _, given, named: seen.append((given[0], named.get("images"))), with_kwargs=True)
    reply = chat(model, *arguments, **options)
    handle.remove()
    return reply, *seen[0]


CONVERSATIONS = {
    "a picture and a question": [user([image(), image("What is this?")])],
    "the question first": [user([image("What is"), image(), image("?")])],
    "two pictures": [user([image(), image("and"), image(), image("?")])],
    "turns": [
        {"role": "system", "content": [image("Be brief.")]},
        user([image(), image("What is this?")]),
        {"role": "assistant", "content": [image("A ring.")]},
        user([image("And this?"), image()]),
    ],
    "no picture": [user([image("Hello.")])],
}
OPTIONS = {
    "the defaults": {},
    "a longer edge": dict(size={"longest_edge": 40}, image_mean=[0.1, 0.2, 0.3], image_std=[0.5, 0.25, 1.0]),
    "not cut": dict(do_image_splitting=False, size={"longest_edge": 33}),
}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_prompt_pictures_and_reply_equal_transformers(name, option, folder, tmp_path):
    messages, options = CONVERSATIONS[name], OPTIONS[option]
    model = with_options(folder, tmp_path, image_processor_type="SmolVLMImageProcessor", **options)
    shown = [noise(40, 23), noise(9, 50, seed=1)][: sum(part["type"] == "image" for message in messages for part in message["content"])]
    given = json.dumps(messages)
    reply, ids, images = heard(model, TOKENIZER, messages, shown or None, max_new_tokens=6)
    assert json.dumps(messages) == given
    sizes = dict(size={"longest_edge": 64}, max_image_size={"longest_edge": 16}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    processor = SmolVLMImageProcessorPil(**sizes | options)
    processor = SmolVLMProcessor(processor, TOKENIZER, SmolVLMVideoProcessor(), model.image_tokens, DEFAULT_CHAT_TEMPLATE)
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    expected = processor(text=text, images=shown or None, add_special_tokens=False, return_tensors="pt")
    assert torch.equal(ids, expected["input_ids"])
    assert images is None if not shown else torch.equal(images, expected["pixel_values"][0])
    theirs = SmolVLMForConditionalGeneration.from_pretrained(folder)
    ends = [TOKENIZER.eos_token_id, 2]
    settings = dict(max_new_tokens=6, do_sample=False, suppress_tokens=[model.image_token_id], eos_token_id=ends, pad_token_id=0)
    written = theirs.generate(**expected, **settings)[0, ids.shape[1] :]
    assert reply == TOKENIZER.decode(written, skip_special_tokens=True).replace("\ufffd", "").strip()


def test_tensors_bare_texts_and_single_pictures_are_taken(folder):
    model, picture = UnifiedMLLM.from_pretrained(folder), noise(40, 23)
    asked = [user([image(), image("What?")])]
    _, ids, images = heard(model, TOKENIZER, asked, picture, max_new_tokens=1)
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255
    for given in (pixels, [pixels[0]], [picture]):
        _, same_ids, same = heard(model, TOKENIZER, asked, given, max_new_tokens=1)
        assert torch.equal(ids, same_ids) and torch.equal(images, same)
    assert len(images) == 4 * 3 + 1, "64 x 38 pixels: three rows of four, and the whole"
    system = {"role": "system", "content": "Be brief."}
    _, ids, _ = heard(model, TOKENIZER, [system, *asked], picture, max_new_tokens=1)
    assert TOKENIZER.decode(ids[0]).startswith("<|im_start|>System: Be brief.<end_of_utterance>\nUser:<fake_token_around_image>")
    assert picture_inputs(model, [picture, picture])["images"].shape == (2, 3, 16, 16), "whole, one for each: as answer asks"
    with pytest.raises(ValueError, match="cuts pictures into sub-pictures: model.split_pictures"):
        prepare_pictures(model, [picture])
    with pytest.raises(ValueError, match="'an <image>' holds '<image>'"):
        chat(model, TOKENIZER, [user([image(), image("an <image>")])], picture)


def test_a_checkpoint_of_whole_pictures_says_nothing_of_rows(folder, tmp_path):
    how = dict(image_processor_type="CLIPImageProcessor", size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    model, tokenizer = with_options(folder, tmp_path, **how), tokenizer_of(TEXTS)
    _, ids, images = heard(model, tokenizer, [user([image(), image("What?")])], noise(40, 23), max_new_tokens=1)
    assert tokenizer.decode(ids[0]).startswith("<s>[user]<image><image><image><image>What?")
    assert torch.equal(images, prepare_pictures(model, [noise(40, 23)]))
    with pytest.raises(ValueError, match="prepare_pictures prepares them whole"):
        model.split_pictures([noise(9, 9)])


@pytest.mark.parametrize(
    "options,message",
    [
        (dict(max_image_size={"longest_edge": 32}), r"max_image_size = \{'longest_edge': 32\}, and the model takes images of 16 x 16"),
        (dict(size={"height": 16, "width": 16}), r"size = \{'height': 16, 'width': 16\}, expected longest_edge alone"),
        (dict(size={"longest_edge": 0}), "size = "),
        (dict(size=64), "size = 64"),
        (dict(do_resize=False), "do_resize = False"),
        (dict(do_image_splitting="yes"), "do_image_splitting = 'yes'"),
        (dict(resample=9), "resample = 9"),
        (dict(image_std=[0.5, 0.0, 0.5]), "image_std"),
        (dict(image_processor_type="MllamaImageProcessor"), "image_processor_type = 'MllamaImageProcessor'"),
    ],
)
def test_preparations_that_are_not_implemented_are_refused_by_name(options, message, folder, tmp_path):
    with pytest.raises(ValueError, match=f"preprocessor_config.json has {message}"):
        with_options(folder, tmp_path, **options)


def test_picture_settings_are_kept_and_a_folder_with_a_tokenizer_opens_as_a_processor(folder, tmp_path):
    (tmp_path / "given").mkdir()
    options = dict(size={"longest_edge": 40}, image_mean=[0.1, 0.2, 0.3], resample=2, rescale_factor=0.01, do_image_splitting=False)
    model = with_options(folder, tmp_path / "given", "processor_config.json", image_processor=options)
    model.save_pretrained(tmp_path / "saved", tokenizer=TOKENIZER)
    assert UnifiedMLLM.from_pretrained(tmp_path / "saved").config == model.config
    processor = AutoProcessor.from_pretrained(tmp_path / "saved")
    assert type(processor) is SmolVLMProcessor and processor.image_seq_len == model.image_tokens == 4
    picture = noise(40, 23)
    _, ids, images = heard(model, TOKENIZER, [user([image(), image("What?")])], picture, max_new_tokens=1)
    text = processor.apply_chat_template([user([image(), image("What?")])], add_generation_prompt=True)
    theirs = processor(text=text, images=[picture], return_tensors="pt")
    assert torch.equal(theirs["input_ids"], ids)
    assert largest_difference(theirs["pixel_values"][0], images) < 0.01 * 4 / 0.5, "torchvision's filter, some levels apart"
