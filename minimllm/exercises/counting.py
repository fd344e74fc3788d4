"""Which exercises have been solved, kept from session to session in a small file of the user's own."""

import json
import os
import tempfile
from pathlib import Path

from filelock import FileLock


def record() -> Path:
    """``solved.json`` in ``$MINIMLLM_DATA``, else in the place for such files on this system."""
    from platformdirs import user_data_path

    chosen = os.environ.get("MINIMLLM_DATA")
    return (Path(chosen).expanduser() if chosen else user_data_path("minimllm", appauthor=False)) / "solved.json"


def remembered() -> set[str]:
    """The names of the exercises that were solved; none where the file is missing or damaged."""
    try:
        names = json.loads(record().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()


def remember(name: str) -> None:
    """Adds a name; where nothing can be written, says so and goes on."""
    file = record()
    if name in remembered():
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock"), timeout=10), tempfile.TemporaryDirectory(dir=file.parent) as beside:
            unfinished = Path(beside) / file.name
            unfinished.write_text(json.dumps(sorted({*remembered(), name})), encoding="utf-8")  # another kernel may have added some
            os.replace(unfinished, file)
    except OSError as error:
        print(f"(Solved exercises cannot be counted here: {error})")
