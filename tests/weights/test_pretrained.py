"""Loading is loud: every fault in a folder is a ValueError that names it as the file does."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import largest_difference
from test_vit import transformers_model

from minimllm import ViT


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    transformers_model(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def refused(folder, message):
    with pytest.raises(ValueError, match=message) as caught:
        ViT.from_pretrained(folder)
    return str(caught.value)


def edit_config(folder, **changes):
    path = folder / "config.json"
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not ...}))


def edit_tensors(folder, change):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})


NAME = "vit.encoder.layer.1.attention.attention.query.weight"


def test_a_missing_tensor_is_named(folder):
    edit_tensors(folder, lambda tensors: tensors.pop(NAME))
    refused(folder, f"1 missing: {NAME}; 0 unexpected")


def test_an_unexpected_tensor_is_named(folder):
    edit_tensors(folder, lambda tensors: tensors.update({"vit.extra.weight": torch.zeros(2)}))
    refused(folder, r"0 missing; 1 unexpected: vit.extra.weight \(model.safetensors\)")


def test_more_layers_than_the_config_says_are_unexpected(folder):
    edit_config(folder, num_hidden_layers=2)
    refused(folder, "16 unexpected: vit.encoder.layer.2")


@pytest.mark.parametrize("shape", [(32, 31), (32, 32, 1), (1024,)])
def test_a_tensor_of_another_shape_is_named(folder, shape):
    edit_tensors(folder, lambda tensors: tensors.update({NAME: torch.zeros(shape)}))
    assert str(shape) in refused(folder, f"{NAME} is torch.float32")


def test_a_patch_kernel_of_another_fold_is_refused(folder):
    name = "vit.embeddings.patch_embeddings.projection.weight"
    edit_tensors(folder, lambda tensors: tensors.update({name: tensors[name].permute(0, 2, 3, 1)}))
    refused(folder, rf"{name} .*\(32, 4, 4, 3\), expected floats of shape \(32, 3, 4, 4\)")


def test_integer_weights_are_refused(folder):
    edit_tensors(folder, lambda tensors: tensors.update({NAME: torch.zeros(32, 32, dtype=torch.int8)}))
    refused(folder, f"{NAME} is torch.int8")


@pytest.mark.parametrize("kept", [0, 4, 100, 5000, -1])
def test_a_file_cut_short_is_named(folder, kept):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    refused(folder, "model.safetensors is damaged or cut short")


def test_names_in_memory_and_stale_buffers_are_accepted(folder, saved):
    images = torch.randn(1, 3, 16, 16)
    expected = ViT.from_pretrained(saved)(images)
    renames = {
        "vit.encoder.layer.": "vit.layers.",
        "attention.attention.query": "attention.q_proj",
        "attention.attention.key": "attention.k_proj",
        "attention.attention.value": "attention.v_proj",
        "attention.output.dense": "attention.o_proj",
        "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2",
    }

    def in_memory(tensors):
        for name in list(tensors):
            new = name
            for theirs, ours in renames.items():
                new = new.replace(theirs, ours)
            tensors[new] = tensors.pop(name)
        tensors["vit.embeddings.position_ids"] = torch.arange(17)

    edit_tensors(folder, in_memory)
    assert "vit.layers.0.attention.q_proj.weight" in load_file(folder / "model.safetensors")
    assert largest_difference(ViT.from_pretrained(folder)(images), expected) < 1e-6


def test_the_same_weight_under_both_names_is_refused(folder):
    edit_tensors(folder, lambda tensors: tensors.update({"vit.layers.1.attention.q_proj.weight": torch.zeros(32, 32)}))
    refused(folder, "unexpected: vit")


def shard(folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names, weight_map = sorted(tensors), {}
    for number in range(3):
        part = names[number::3]
        file = f"model-0000{number + 1}-of-00003.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return weight_map


def test_shards_are_read_and_symbolic_links_followed(folder, saved, tmp_path):
    shard(folder)
    images = torch.randn(1, 3, 16, 16)
    expected = ViT.from_pretrained(saved)(images)
    assert largest_difference(ViT.from_pretrained(folder)(images), expected) < 1e-6
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for file in folder.iterdir():
        (snapshot / file.name).symlink_to(file)
    assert largest_difference(ViT.from_pretrained(str(snapshot))(images), expected) < 1e-6


def test_a_missing_shard_is_named(folder):
    shard(folder)
    (folder / "model-00002-of-00003.safetensors").unlink()
    refused(folder, "model-00002-of-00003.safetensors")


@pytest.mark.parametrize(
    "path", ["../other/model.safetensors", "/etc/model.safetensors", "a/../../b.safetensors", "..\\b.safetensors", "C:\\b"]
)
def test_a_shard_path_that_leads_outside_is_refused(folder, path):
    weight_map = shard(folder)
    weight_map[NAME] = path
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert repr(path) in refused(folder, "leads outside the folder")


@pytest.mark.parametrize("name", ["pytorch_model-00001-of-00002.bin", "consolidated.00.pth", "model", ""])
def test_a_shard_of_another_kind_is_not_opened(folder, name):
    """Not even if there is such a file, and whatever is in it."""
    weight_map = shard(folder)
    if name:
        (folder / name).write_bytes(b"never opened")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map | {NAME: name}}))
    assert repr(name) in refused(folder, "expected a .safetensors file, since nothing is unpickled")


def test_a_pickle_under_the_name_of_a_safetensors_file_is_not_unpickled(folder):
    torch.save({NAME: torch.ones(1)}, folder / "model.safetensors")
    refused(folder, "model.safetensors is damaged or cut short")


def test_configs(folder, saved, tmp_path):
    images = torch.randn(1, 3, 16, 16)
    edit_config(folder, layer_norm_eps=..., hidden_act=..., num_channels=..., qkv_bias=...)
    same = largest_difference(ViT.from_pretrained(folder)(images), ViT.from_pretrained(saved)(images))
    assert same < 1e-6, "defaults may be left out"
    for changes, message in [
        ({"hidden_act": "swish"}, "hidden_act = 'swish'"),
        ({"patch_size": [4, 2]}, r"patch_size = \[4, 2\]"),
        ({"hidden_size": "wide"}, "hidden_size = 'wide'"),
        ({"model_type": "deit"}, "config.json has model_type 'deit', expected 'vit'"),
        ({"model_type": ...}, "model_type None"),
    ]:
        broken = shutil.copytree(saved, tmp_path / "broken", dirs_exist_ok=True)
        edit_config(broken, **changes)
        refused(broken, message)
    (broken / "config.json").write_text("{")
    refused(broken, "config.json cannot be read as JSON")
    (broken / "config.json").write_text("[]")
    refused(broken, "config.json should hold a JSON object")
    (broken / "config.json").unlink()
    refused(broken, "holds no config.json")


def test_places_that_are_no_folder(saved, tmp_path):
    refused(saved / "config.json", "is a file")
    refused(tmp_path / "nowhere", "there is no folder")
    (tmp_path / "pickled").mkdir()
    shutil.copy(saved / "config.json", tmp_path / "pickled")
    for name in ("pytorch_model.bin", "consolidated.pth", "model.pkl"):
        (tmp_path / "pickled" / name).write_bytes(b"never opened")
        refused(tmp_path / "pickled", f"{name} would have to be unpickled")
        (tmp_path / "pickled" / name).unlink()


def test_a_hub_name_without_a_network_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused("nobody/nothing", "'nobody/nothing' is no folder here, and the hub did not give it")


def test_dtype(saved):
    images = torch.randn(2, 3, 16, 16)
    full, half = ViT.from_pretrained(saved), ViT.from_pretrained(saved, dtype=torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    assert largest_difference(half(images.bfloat16()).float(), full(images)) < 0.2
    assert not full.training and all(p.requires_grad for p in full.parameters())
