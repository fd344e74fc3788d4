"""Runs cases in child processes, several at a time: one that crashes, hangs or fills the memory is seen, and named by its seed.

This process imports and prepares, and is then forked once for every case, so that a case costs some milliseconds and none can harm another.
"""

import faulthandler
import json
import os
import resource
import selectors
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

SECONDS = 180  # of the wall clock: a case that takes longer hangs; the slowest takes two, on a machine that does nothing else
CALL_SECONDS = 5  # of the processor, for one call of the package
MEGABYTES = 1500  # that a case may hold beyond what this process holds
ADDRESSES = 4000  # megabytes of addresses beyond this process's, files mapped to memory included


class Fault(AssertionError):
    """Something that must not happen: what was done to what, and what came of it."""


@dataclass
class Result:
    """What became of a case."""

    suite: str
    seed: int
    kind: str = "?"
    fault: str | None = None
    outcomes: Counter = field(default_factory=Counter)  # "refused", "right" -> number of calls that ended so
    seconds: float = 0.0  # of the processor
    slowest: float = 0.0  # of the processor, the longest call of the package
    megabytes: float = 0.0


class Log:
    """What a child tells while it runs: its kind, where it is, how each call ended."""

    def __init__(self, pipe: int):
        self._pipe = pipe

    def tell(self, **values) -> None:
        os.write(self._pipe, (json.dumps(values) + "\n").encode())

    def call(self, where: str, function: Callable, documented: tuple[type[Exception], ...] = (ValueError,)):
        """``(value, None)``, or ``(None, error)`` for an error of a documented kind; a ``Fault`` for one that is not."""
        self.tell(at=where)
        started = time.process_time()
        try:
            value, error = function(), None
        except documented as refusal:
            value, error = None, refusal
        except BaseException as other:
            told = "".join(traceback.format_exception(other)[-4:]).split("Exception raised from")[0][-1500:]
            raise Fault(f"{where}: {type(other).__name__} instead of {documented[0].__name__}\n{told}") from other
        seconds = time.process_time() - started
        self.tell(outcome="right" if error is None else "refused", seconds=seconds)
        if error is not None and ("MemoryError" in str(error) or "allocate" in str(error)):
            raise Fault(f"{where}: the memory was filled before the refusal: {error}")
        if seconds > CALL_SECONDS:
            raise Fault(f"{where}: took {seconds:.1f} seconds of the processor")
        return value, error


def run(suite: str, seeds: Iterable[int], work: Callable[[int, Path, Log], None], folder: Path, jobs: int) -> Iterator[Result]:
    """The result of every seed, as it comes. ``work(seed, folder, log)`` raises a :class:`Fault`; it stands in its own empty folder."""
    waiting, running = list(seeds)[::-1], {}
    with selectors.DefaultSelector() as pipes:
        while waiting or running:
            while waiting and len(running) < jobs:
                child = Child(suite, waiting.pop(), work, folder)
                running[child.pipe] = child
                pipes.register(child.pipe, selectors.EVENT_READ)
            for key, _ in pipes.select(timeout=1):
                child = running[key.fd]
                if not child.read():  # the pipe is closed: it has ended
                    pipes.unregister(key.fd)
                    yield running.pop(key.fd).end()
            for child in running.values():
                if time.monotonic() > child.started + SECONDS + 10:  # its own alarm did not wake it
                    os.kill(child.process, signal.SIGKILL)


class Child:
    """A case in a process of its own."""

    def __init__(self, suite: str, seed: int, work: Callable, folder: Path):
        self.result, self.folder, self.started = Result(suite, seed), folder / f"{suite}-{seed}", time.monotonic()
        self.where, self.unread = "its generation", b""
        self.folder.mkdir()
        self.errors = self.folder.with_suffix(".stderr")
        sys.stdout.flush()
        self.pipe, writing = os.pipe()
        self.process = os.fork()
        if self.process == 0:
            self.live(work, writing)
        os.close(writing)

    def live(self, work: Callable, pipe: int) -> None:
        """In the child, which never comes back from here."""
        try:
            os.dup2(os.open(self.errors, os.O_CREAT | os.O_WRONLY), 2)
            faulthandler.enable()
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            if sys.platform == "linux":
                resource.setrlimit(resource.RLIMIT_AS, (pages()[0] * resource.getpagesize() + ADDRESSES * 2**20,) * 2)
            os.chdir(self.folder)
            log, place = Log(pipe), self.folder
            log.tell(held=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
            try:
                work(self.result.seed, place, log)
            except Fault as fault:
                log.tell(fault=str(fault))
            log.tell(done=True)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(0)

    def read(self) -> bool:
        """Take in what the child tells; False when it has nothing more to tell."""
        part = os.read(self.pipe, 65536)
        *lines, self.unread = (self.unread + part).split(b"\n")
        for told in map(json.loads, lines):
            self.where = told.get("at", self.where)
            self.result.kind = told.get("kind", self.result.kind)
            self.result.fault = told.get("fault", self.result.fault)
            self.held = told.get("held", self.held)
            self.done = told.get("done", False)
            if "outcome" in told:
                self.result.outcomes[told["outcome"]] += 1
                self.result.slowest = max(self.result.slowest, told["seconds"])
        return bool(part)

    held, done = 0, False  # the most that the child held at its start, and whether it came to its end

    def end(self) -> Result:
        os.close(self.pipe)
        _, status, usage = os.wait4(self.process, 0)
        result, unit = self.result, 1024 if sys.platform != "darwin" else 1
        result.seconds = usage.ru_utime + usage.ru_stime
        result.megabytes = (usage.ru_maxrss - self.held) * unit / 2**20
        if not self.done:
            signalled = os.WIFSIGNALED(status) and f"killed by signal {os.WTERMSIG(status)}"
            hung = time.monotonic() - self.started > SECONDS and f"still running after {SECONDS} seconds"
            lines = self.errors.read_text(errors="replace").splitlines()
            told = "\n".join(lines if len(lines) < 30 else [*lines[:12], "...", *lines[-14:]])
            result.fault = f"{self.where}: {hung or signalled or 'ended before its time'}\n{told}"
        elif result.fault is None and result.megabytes > MEGABYTES:
            result.fault = f"held {result.megabytes:.0f} megabytes, at most {MEGABYTES} are allowed; the last call was {self.where}"
        self.errors.unlink(missing_ok=True)
        remove(self.folder)
        return result


def pages() -> tuple[int, int]:
    """Pages of this process on Linux: of its addresses, and of memory."""
    size, held = Path("/proc/self/statm").read_text().split()[:2]
    return int(size), int(held)


def remove(folder: Path) -> None:
    """Whatever is in it, pipes and links that lead nowhere included."""
    shutil.rmtree(folder, ignore_errors=True)
