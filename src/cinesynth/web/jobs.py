"""Jobs: one at a time, in the order in which they came, so that two users do not run out of memory."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from cinesynth.errors import CinesynthError, InputError
from cinesynth.web.schemas import without_paths
from cinesynth.web.store import GONE, token

State = Literal["waiting", "running", "done", "failed", "cancelled"]
KEPT = 200
"""Ended jobs that are remembered."""
log = logging.getLogger("cinesynth.web")


class Cancelled(Exception):
    """Whoever asked does not want it any more."""


@dataclass
class Job:
    """Something that takes longer than a second."""

    session: str
    kind: str
    work: Callable[[Job], list[str]]
    """Returns the names of the results."""
    name: str = field(default_factory=token)
    state: State = "waiting"
    done: float = 0.0
    """Share of the work."""
    doing: str = ""
    results: list[str] = field(default_factory=list)
    error: dict[str, str] | None = None
    begun: float | None = None
    ended: float | None = None
    cancel: threading.Event = field(default_factory=threading.Event)

    def step(self, done: float, doing: str) -> None:
        """Say how far it is; raises `Cancelled` where nobody wants it any more."""
        if self.cancel.is_set():
            raise Cancelled
        self.done, self.doing = min(max(done, self.done), 0.99), doing

    @property
    def seconds_left(self) -> float | None:
        """What is left if it goes on as it went; None while that is a guess."""
        if self.state != "running" or self.begun is None or self.done < 0.05:
            return None
        return (time.monotonic() - self.begun) * (1.0 - self.done) / self.done

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in ("done", "failed", "cancelled")


class Jobs:
    """The queue and its one worker."""

    def __init__(self, waiting: int, waiting_all: int) -> None:
        self.waiting, self.waiting_all = waiting, waiting_all
        self._jobs: dict[str, Job] = {}
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._worker = threading.Thread(target=self._run, name="jobs", daemon=True)
        self._worker.start()

    def submit(self, session: str, kind: str, work: Callable[[Job], list[str]]) -> Job:
        """Take a job; `InputError` where this session, or everybody, has too many."""
        job = Job(session, kind, work)
        with self._lock:
            open_ = [j for j in self._jobs.values() if not j.is_over]
            mine = sum(j.session == session for j in open_)
            if mine >= self.waiting or len(open_) >= self.waiting_all:
                whose = f"{mine} of yours" if mine >= self.waiting else f"{len(open_)} of all users"
                raise InputError(f"{whose} are waiting already", hint="wait until one is done, or cancel one")
            self._jobs[job.name] = job
            for old in [j for j in self._jobs.values() if j.is_over][: max(0, len(self._jobs) - KEPT)]:
                del self._jobs[old.name]
        self._queue.put(job)
        return job

    def get(self, session: str, name: str) -> Job:
        """A job of this session; `InputError` for all others."""
        with self._lock:
            job = self._jobs.get(name)
        if job is None or job.session != session:
            raise GONE
        return job

    def cancel(self, job: Job) -> None:
        """A waiting job is over at once, a running one at its next step."""
        job.cancel.set()
        with self._lock:
            if job.state == "waiting":
                job.state, job.ended = "cancelled", time.monotonic()

    def ahead(self, job: Job) -> int:
        """Jobs that come before a waiting one."""
        if job.state != "waiting":
            return 0
        with self._lock:
            names = [name for name, each in self._jobs.items() if not each.is_over]
        return names.index(job.name) if job.name in names else 0

    def to_json(self, job: Job) -> dict[str, Any]:
        """What its owner may know."""
        left = job.seconds_left
        return {
            "id": job.name,
            "kind": job.kind,
            "state": job.state,
            "done": round(job.done, 3),
            "doing": job.doing,
            "ahead": self.ahead(job),
            "seconds_left": None if left is None else round(left, 1),
            "results": job.results,
            "error": job.error,
        }

    def close(self) -> None:
        """Cancel everything and stop."""
        with self._lock:
            jobs = list(self._jobs.values())
        for job in jobs:
            self.cancel(job)
        self._queue.put(None)
        self._worker.join(timeout=10)

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            with self._lock:
                if job.state != "waiting":
                    continue
                job.state, job.begun = "running", time.monotonic()
            self._do(job)
            job.ended = time.monotonic()

    def _do(self, job: Job) -> None:
        try:
            results = job.work(job)
        except Cancelled:
            job.state = "cancelled"
        except CinesynthError as error:
            job.error = {"message": without_paths(error.message), "hint": without_paths(error.hint)}
            job.state = "failed"
        except Exception:
            log.exception("a job failed")
            job.error = {"message": "something went wrong on the server", "hint": "its log says what"}
            job.state = "failed"
        else:
            job.results, job.done, job.doing, job.state = results, 1.0, "", "done"
