"""A folder holds the old files or the new: wherever it lies, whenever a process is killed, and whoever else saves or reads."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from minimllm import ViT, ViTConfig, load
from minimllm.models import shipped
from minimllm.weights import folders
from minimllm.weights.folders import WHOLE, locked, reading, unfinished, whole_folder

posix = pytest.mark.skipif(os.name != "posix", reason="folders have locks and processes are forked on POSIX systems")


def write(folder, version, names=("config.json", "model.safetensors")):
    with whole_folder(folder) as new:
        for name in names:
            (new / name).write_text(version)


def read(folder):
    with reading(folder) as place:
        return {path.name: path.read_text() for path in place.iterdir() if path.is_file()}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


SMALL = ViTConfig.tiny(layers=1, dim=8, heads=2, mlp_dim=8)


@pytest.mark.parametrize("target", ["there", "missing"])
@pytest.mark.parametrize("way", ["save_pretrained", "shipped", "checkpoint"])
def test_through_a_symbolic_link_the_files_land_in_its_target(target, way, tmp_path):
    place, link = tmp_path / "volume" / "model", tmp_path / "link"
    (place if target == "there" else place.parent).mkdir(parents=True)
    link.symlink_to(place)
    for classes in (3, 5):
        model = ViT(ViTConfig.tiny(layers=1, dim=8, heads=2, mlp_dim=8, classes=classes))
        if way == "checkpoint":
            from minimllm.training.checkpoints import latest_checkpoint, save_checkpoint

            save_checkpoint(link, classes, {"x": torch.ones(classes)}, {})
            assert len(latest_checkpoint(link)[1]["x"]) == classes
            continue
        model.save_pretrained(link) if way == "save_pretrained" else shipped.save(link, model, None, {"seed": 1})
        assert (ViT.from_pretrained(link) if way == "save_pretrained" else load(link)[0]).config.classes == classes
    assert link.is_symlink() and names(tmp_path) == ["link", "volume"] and names(tmp_path / "volume") == ["model"]
    wanted = {"shipped": ["card.json", "config.json", "model.safetensors"], "save_pretrained": ["config.json", "model.safetensors"]}
    assert names(place) == wanted.get(way, ["step-00000003.safetensors", "step-00000005.safetensors"]), "and nothing is left behind"


@pytest.mark.parametrize("name", [".", "", "./", "../here"])
def test_into_the_working_folder(name, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for classes in (3, 5):
        ViT(ViTConfig.tiny(classes=classes)).save_pretrained(name)
        assert ViT.from_pretrained(".").config.classes == classes
    assert names(tmp_path / "here") == ["config.json", "model.safetensors"] and names(tmp_path) == ["here"]


def test_into_a_mount_point_which_nobody_may_rename_and_nobody_may_link_out_of(tmp_path, monkeypatch):
    rename, replace, link = os.rename, os.replace, os.link

    def inside(operation):
        def guarded(source, target, **options):
            if not all(Path(path).is_relative_to(tmp_path / "mount") and Path(path) != tmp_path / "mount" for path in (source, target)):
                raise OSError(errno.EBUSY if Path(source) == tmp_path / "mount" else errno.EXDEV, "a mount point")
            return operation(source, target, **options)

        return guarded

    (tmp_path / "mount").mkdir()
    for name, operation in (("rename", rename), ("replace", replace), ("link", link)):
        monkeypatch.setattr(os, name, inside(operation))
    for version in ("old", "new"):
        write(tmp_path / "mount", version)
    assert read(tmp_path / "mount") == {"config.json": "new", "model.safetensors": "new"}
    assert names(tmp_path) == ["mount"] and names(tmp_path / "mount") == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("lacking", ["links", "locks"])
def test_on_a_drive_without_links_or_locks(lacking, tmp_path, monkeypatch):
    def fails(*arguments, **options):
        raise OSError(errno.EOPNOTSUPP, "not supported")

    if lacking == "links":
        monkeypatch.setattr(os, "link", fails)
    else:
        monkeypatch.setattr(folders, "fcntl", None)
    for version in ("old", "new"):
        write(tmp_path / "model", version)
    assert read(tmp_path / "model") == {"config.json": "new", "model.safetensors": "new"} and len(names(tmp_path / "model")) == 2


def test_what_the_new_model_does_not_have_goes_and_what_is_no_models_is_refused(tmp_path):
    write(tmp_path / "model", "old", ("config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "card.json"))
    write(tmp_path / "model", "new")
    assert names(tmp_path / "model") == ["config.json", "model.safetensors"]
    (tmp_path / "model" / "notes.txt").write_text("mine")
    model = ViT(SMALL)
    for save in (lambda: write(tmp_path / "model", "newer"), lambda: shipped.save(tmp_path / "model", model, None, {})):
        with pytest.raises(ValueError, match="holds notes.txt"):
            save()
    assert read(tmp_path / "model") == {"config.json": "new", "model.safetensors": "new", "notes.txt": "mine"}
    assert len(names(tmp_path / "model")) == 3


def test_links_that_lead_nowhere_and_files_are_refused(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("file")
    for name, words in {"a": "leads nowhere", "file": "is a file", "link": "is a file"}.items():
        with pytest.raises(ValueError, match=words):
            write(tmp_path / name, "new")
    assert names(tmp_path) == ["a", "b", "file", "link"]


def test_a_block_that_fails_leaves_nothing(tmp_path):
    for folder in (tmp_path / "new", tmp_path / "old"):
        if folder.name == "old":
            write(folder, "old")
        with pytest.raises(OSError, match="no space"), whole_folder(folder) as new:
            (new / "config.json").write_text("new")
            raise OSError("no space left")
    assert names(tmp_path) == ["old"] and names(tmp_path / "old") == ["config.json", "model.safetensors"]
    assert set(read(tmp_path / "old").values()) == {"old"}


# The process that saves dies at its nth change of the file system: the child of a fork, so that nothing is imported anew.
KILLED = """
import os, sys
from pathlib import Path
from minimllm.weights.folders import reading, whole_folder

CHANGES = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "shutil.copyfile", "open"}
left, folder = None, Path(sys.argv[1])

def watch(event, arguments):
    global left
    if left is not None and event in CHANGES and str(folder) in repr(arguments):
        if event == "open" and not (isinstance(arguments[1], str) and set("wax+") & set(arguments[1])):
            return
        left -= 1
        if left < 0:
            os._exit(9)

sys.addaudithook(watch)

def save(version, names):
    with whole_folder(folder) as new:
        for name in names:
            (new / name).write_text(version)

def read():
    with reading(folder) as place:
        return {path.name: path.read_text() for path in place.iterdir() if path.is_file()}

OLD = ("config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json")
NEW = ("config.json", "model.safetensors", "tokenizer.json")
seen = []
for moment in range(200):
    save("old", OLD)
    assert sorted(path.name for path in folder.iterdir()) == sorted(OLD), "nothing is left of the process that was killed"
    child = os.fork()
    if child == 0:
        left = moment
        save("new", NEW)
        os._exit(0)
    done = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    found = read()
    assert found in (dict.fromkeys(OLD, "old"), dict.fromkeys(NEW, "new")), (moment, found)
    if (folder / "config.json").exists():  # what one sees who knows nothing of hidden folders
        visible = {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
        assert visible == (dict.fromkeys(OLD, "old") if visible["config.json"] == "old" else dict.fromkeys(NEW, "new")), (moment, visible)
    seen.append(found["config.json"])
    if done:
        break
print(seen.count("old"), seen.count("new"), done)
"""


@posix
def test_killed_at_any_change_of_the_file_system(tmp_path):
    ran = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "model")], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    old, new, done = ran.stdout.split()
    assert int(old) > 4 and int(new) > 8 and done == "True", ran.stdout


CROWD = """
import random, sys, time
from pathlib import Path
from minimllm.weights.folders import reading, whole_folder

folder, who = Path(sys.argv[1]), sys.argv[2]
random.seed(who)
end, times = time.monotonic() + 1, 0
while time.monotonic() < end or times < 10:
    if who.startswith("reader"):
        with reading(folder) as place:
            found = {}
            for path in sorted(place.iterdir(), reverse=random.random() < 0.5):
                if path.is_file():
                    found[path.name] = path.read_text()
                    time.sleep(random.random() * 0.002)
        version = found["config.json"]
        assert set(found.values()) == {version} and len(found) == (2 if version == "old" else 3), found
    else:
        version = random.choice(["card", "tokenizer"])
        with whole_folder(folder) as new:
            for name in ("config.json", version + ".json", "model.safetensors"):
                (new / name).write_text(version)
                time.sleep(random.random() * 0.002)
    times += 1
"""


@posix
def test_several_processes_save_to_one_folder_and_others_read_it(tmp_path):
    write(tmp_path / "model", "old")
    crowd = [
        subprocess.Popen([sys.executable, "-c", CROWD, str(tmp_path / "model"), who], stderr=subprocess.PIPE, text=True)
        for who in ("saver 1", "saver 2", "saver 3", "reader 1", "reader 2")
    ]
    for process in crowd:
        _, told = process.communicate(timeout=120)
        assert process.returncode == 0, told
    assert len(names(tmp_path / "model")) == 3 and len(set(read(tmp_path / "model").values())) == 1


@posix
def test_what_a_living_process_writes_is_left_alone(tmp_path):
    with unfinished(tmp_path / "model") as mine:
        (mine / "half.safetensors").write_text("half")
        write(tmp_path / "model", "new")
        assert (mine / "half.safetensors").exists()
    (tmp_path / "model" / ".unfinished-of-the-dead").mkdir()
    write(tmp_path / "model", "newer")
    assert names(tmp_path / "model") == ["config.json", "model.safetensors"]


@posix
def test_models_are_read_where_they_count(tmp_path):
    """As a process leaves a folder that is killed right behind the moment from which the new files count."""
    ViT(ViTConfig.tiny(classes=3)).save_pretrained(tmp_path / "old")
    new = ViT(ViTConfig.tiny(classes=5))
    new.save_pretrained(tmp_path / "old" / WHOLE)
    images = torch.rand(1, 3, 32, 32)
    assert (ViT.from_pretrained(tmp_path / "old")(images) - new(images)).abs().max() < 1e-5
    with locked(tmp_path / "old", shared=True):
        assert ViT.from_pretrained(tmp_path / "old").config.classes == 5, "readers do not wait for each other"
    shipped.save(tmp_path / "course", new, None, {"seed": 1})
    shipped.save(tmp_path / "course" / WHOLE, ViT(ViTConfig.tiny(classes=4)), None, {"seed": 2})
    assert load(tmp_path / "course")[0].config.classes == 4 and shipped.read_card(tmp_path / "course") == {"seed": 2}
    shipped.save(tmp_path / "course", new, None, {"seed": 3})
    assert names(tmp_path / "course") == ["card.json", "config.json", "model.safetensors"]


def test_an_empty_name_is_no_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="name is empty; '.' is the working folder"), whole_folder(""):
        pass
    assert list(tmp_path.iterdir()) == []
