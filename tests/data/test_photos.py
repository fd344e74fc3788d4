"""Real data: the digits' split, the photographs, and files of one's own, good and bad."""

import gzip
import struct
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from minimllm.data.digits import DIGIT_SPLITS, DIGIT_WORDS, digits
from minimllm.data.photos import as_tensor, open_picture, photo, photo_names, picture_folder, public_dataset

# --- digits ---


def test_digits_are_split_once_and_for_all():
    parts = {split: digits(split) for split in DIGIT_SPLITS}
    assert {split: len(labels) for split, (_, labels) in parts.items()} == {"train": 1287, "validation": 150, "test": 360}
    for split, per_digit in (("test", 36), ("validation", 15)):
        assert parts[split][1].bincount().tolist() == [per_digit] * 10, "stratified"
    for images, labels in parts.values():
        assert images.shape[1:] == (1, 8, 8) and images.dtype == torch.float32 and labels.dtype == torch.int64
        assert images.min() == 0 and images.max() == 1
    assert torch.equal(digits("train")[0], parts["train"][0]) and DIGIT_WORDS[7] == "seven"

    bunch = load_digits()
    together = torch.cat([images for images, _ in parts.values()]).flatten(1).mul(16).long()
    labels = torch.cat([labels for _, labels in parts.values()])
    ours = sorted((*pixels, label) for pixels, label in zip(together.tolist(), labels.tolist(), strict=True))
    theirs = sorted((*pixels, label) for pixels, label in zip(bunch.data.astype(int).tolist(), bunch.target.tolist(), strict=True))
    assert ours == theirs, "every image is in exactly one split, with its label"
    assert parts["test"][1][:12].tolist() == [8, 0, 1, 8, 8, 4, 8, 0, 6, 2, 4, 5], "the same on every machine"


def test_digits_come_shuffled_and_as_copies():
    images, labels = digits("train")
    assert (labels[:-1] <= labels[1:]).double().mean() < 0.7
    images.zero_()
    assert digits("train")[0].max() == 1, "what a learner does to them does not stay"


def test_unknown_split_of_digits():
    with pytest.raises(ValueError, match="unknown split 'held_out'; the digits have train, validation, test"):
        digits("held_out")


# --- photographs ---


def test_photographs():
    assert photo_names() == ("china", "flower")
    for name in photo_names():
        picture = photo(name)
        assert picture.mode == "RGB" and picture.size == (640, 427) and np.asarray(picture).std() > 30
    with pytest.raises(ValueError, match="unknown photograph 'cat'; choose one of china, flower"):
        photo("cat")


def test_pictures_as_numbers():
    picture = photo("flower")
    assert torch.allclose(as_tensor(picture), torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255)
    square = as_tensor(picture, 64)
    assert square.shape == (3, 64, 64) and 0 <= square.min() and square.max() <= 1
    middle = as_tensor(picture.crop(((640 - 427) // 2, 0, (640 + 427) // 2, 427)), 64)
    assert (square - middle).abs().mean() < 0.03, "the middle, not squeezed"


@pytest.fixture
def files(tmp_path):
    """Good files in several forms: the same picture, red at the top and blue below."""
    picture = Image.new("RGB", (40, 20), (200, 0, 0))
    picture.paste((0, 0, 200), (0, 10, 40, 20))
    picture.save(tmp_path / "plain.png")
    picture.save(tmp_path / "photo.jpg", quality=95)
    upside_down = picture.transpose(Image.Transpose.ROTATE_180)
    exif = Image.Exif()
    exif[0x0112] = 3
    upside_down.save(tmp_path / "camera.jpg", quality=95, exif=exif)
    picture.quantize(16).save(tmp_path / "palette.png")
    return tmp_path


def test_opening_pictures_of_ones_own(files):
    for name in ("plain.png", "photo.jpg", "camera.jpg", "palette.png"):
        picture = open_picture(files / name)
        assert picture.mode == "RGB" and picture.size == (40, 20)
        pixels = np.asarray(picture).astype(int)
        assert abs(pixels[:8] - (200, 0, 0)).max() < 12 and abs(pixels[12:] - (0, 0, 200)).max() < 12, name
    assert open_picture(str(files / "plain.png")).size == (40, 20), "a path may be a text"
    Image.fromarray(np.full((4, 4), 32896, np.uint16)).save(files / "deep.png")
    assert np.asarray(open_picture(files / "deep.png")).tolist() == np.full((4, 4, 3), 128).tolist(), "16 bits are scaled, not clipped"
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(files / "glass.png")
    assert open_picture(files / "glass.png").getpixel((0, 0)) == (255, 255, 255), "what is transparent becomes white"
    Image.new("L", (4, 4), 7).save(files / "grey.png")
    assert open_picture(files / "grey.png").getpixel((1, 1)) == (7, 7, 7)


def test_files_that_are_no_pictures(files):
    with pytest.raises(FileNotFoundError, match="there is no picture at .*nowhere.png"):
        open_picture(files / "nowhere.png")
    with pytest.raises(ValueError, match="is a folder"):
        open_picture(files)
    (files / "notes.png").write_text("not a picture")
    with pytest.raises(ValueError, match="notes.png is not a picture"):
        open_picture(files / "notes.png")
    (files / "empty.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="empty.jpg is not a picture"):
        open_picture(files / "empty.jpg")
    Image.new("RGB", (8, 8)).save(files / "moving.gif", save_all=True, append_images=[Image.new("RGB", (8, 8), "red")])
    with pytest.raises(ValueError, match="moving.gif is animated: it holds 2 pictures"):
        open_picture(files / "moving.gif")


@pytest.mark.parametrize("name", ["plain.png", "photo.jpg"])
def test_pictures_cut_short_at_any_place_are_refused_by_name(files, name):
    whole = (files / name).read_bytes()
    ends = len(whole) - (21 if name.endswith("png") else 2)  # what follows are checksums and end marks, no pixels
    for length in range(1, ends, max(1, ends // 40)):
        (files / f"cut_{name}").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=f"cut_{name} is "):
            open_picture(files / f"cut_{name}")
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    if name.endswith("png"):
        (files / "damaged.png").write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged.png is damaged"):
            open_picture(files / "damaged.png")


def test_a_picture_too_large_to_be_meant(files, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(ValueError, match="plain.png is too large"):
        open_picture(files / "plain.png")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 800)
        open_picture(files / "plain.png")
    assert not said


# --- folders and public data sets ---


def test_a_folder_of_ones_own_pictures(tmp_path):
    for label, (name, colour) in enumerate((("apples", "red"), ("berries", "blue"))):
        (tmp_path / name).mkdir()
        for index in range(2 + label):
            Image.new("RGB", (50, 40 + index), colour).save(tmp_path / name / f"{index}.png")
    images, labels, classes = picture_folder(tmp_path, size=16)
    assert images.shape == (5, 3, 16, 16) and labels.tolist() == [0, 0, 1, 1, 1] and classes == ["apples", "berries"]
    assert images[:2].mean((0, 2, 3)).tolist() == [1, 0, 0] and images[2:].mean((0, 2, 3)).tolist() == [0, 0, 1]
    (tmp_path / "apples" / "bad.jpg").write_bytes(b"\xff\xd8 cut")
    with pytest.raises(ValueError, match="bad.jpg"):
        picture_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        picture_folder(tmp_path / "nowhere")
    (tmp_path / "only").mkdir()
    with pytest.raises(FileNotFoundError):
        picture_folder(tmp_path / "only")


def test_mnist_through_torchvision(tmp_path):
    """With files in MNIST's own form, made here: nothing is fetched."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 28, 28), dtype=np.uint8)
    for prefix in ("train", "t10k"):
        for name, content in (
            (f"{prefix}-images-idx3-ubyte", struct.pack(">IIII", 2051, 6, 28, 28) + pixels.tobytes()),
            (f"{prefix}-labels-idx1-ubyte", struct.pack(">II", 2049, 6) + bytes([3, 1, 4, 1, 5, 9])),
        ):
            (raw / name).write_bytes(content)
            (raw / f"{name}.gz").write_bytes(gzip.compress(content))
    images, labels, classes = public_dataset("MNIST", "test", tmp_path)
    assert torch.allclose(images, torch.from_numpy(pixels)[:, None] / 255) and labels.tolist() == [3, 1, 4, 1, 5, 9] and len(classes) == 10
    with pytest.raises(FileNotFoundError, match="CIFAR10 is not in .*download=True"):
        public_dataset("CIFAR10", "train", tmp_path)
    with pytest.raises(ValueError, match="unknown data set 'ImageNet'"):
        public_dataset("ImageNet", "train", tmp_path)
    with pytest.raises(ValueError, match="unknown split 'validation'"):
        public_dataset("MNIST", "validation", tmp_path)


def test_pictures_opened_by_many_threads_leave_the_filter_of_warnings_as_it_was(tmp_path):
    for number in range(8):
        Image.new("RGB", (5 + number, 3), "red").save(tmp_path / f"{number}.png")
    before, interval = list(warnings.filters), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            widths = list(pool.map(lambda number: open_picture(tmp_path / f"{number % 8}.png").width, range(400)))
    finally:
        sys.setswitchinterval(interval)
    assert widths == [5 + number % 8 for number in range(400)] and warnings.filters == before
