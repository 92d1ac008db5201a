"""A job queue with one worker, so that two users do not exhaust the memory together."""

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

KEPT = 200
log = logging.getLogger("cinesynth.web")


class Cancelled(Exception):
    """The job was cancelled by its owner."""


@dataclass
class Job:
    """One unit of work with its progress."""

    session: str
    kind: str
    work: Callable[[Job], list[str]]
    """Returns the names of the results."""
    name: str = field(default_factory=token)
    state: Literal["waiting", "running", "done", "failed", "cancelled"] = "waiting"
    done: float = 0.0
    """Fraction of the work, 0-1."""
    doing: str = ""
    results: list[str] = field(default_factory=list)
    error: dict[str, str] | None = None
    begun: float | None = None
    ended: float | None = None
    cancel: threading.Event = field(default_factory=threading.Event)

    def step(self, done: float, doing: str) -> None:
        """Report progress; raises `Cancelled` if the job was cancelled."""
        if self.cancel.is_set():
            raise Cancelled
        self.done, self.doing = min(max(done, self.done), 0.99), doing

    @property
    def is_over(self) -> bool:
        """Whether the job has ended."""
        return self.state in ("done", "failed", "cancelled")


class Jobs:
    """The queue and its one worker. At most `KEPT` ended jobs are remembered."""

    def __init__(self, waiting: int, waiting_all: int) -> None:
        self.waiting, self.waiting_all = waiting, waiting_all
        self._jobs: dict[str, Job] = {}
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._worker = threading.Thread(target=self._run, name="jobs", daemon=True)
        self._worker.start()

    def submit(self, session: str, kind: str, work: Callable[[Job], list[str]]) -> Job:
        """Queue a job; `InputError` if this session, or all sessions together, have too many."""
        job = Job(session, kind, work)
        with self._lock:
            open_ = [j for j in self._jobs.values() if not j.is_over]
            mine = sum(j.session == session for j in open_)
            if mine >= self.waiting or len(open_) >= self.waiting_all:
                whose = f"{mine} of your jobs" if mine >= self.waiting else f"{len(open_)} jobs of all users"
                raise InputError(f"{whose} are already waiting", hint="wait for one to finish, or cancel one")
            self._jobs[job.name] = job
            for old in [j for j in self._jobs.values() if j.is_over][: max(0, len(self._jobs) - KEPT)]:
                del self._jobs[old.name]
        self._queue.put(job)
        return job

    def get(self, session: str, name: str) -> Job:
        """A job of this session; `InputError` for any other."""
        with self._lock:
            job = self._jobs.get(name)
        if job is None or job.session != session:
            raise GONE
        return job

    def cancel(self, job: Job) -> None:
        """Cancel a job: at once if it waits, at its next step if it runs."""
        job.cancel.set()
        with self._lock:
            if job.state == "waiting":
                job.state, job.ended = "cancelled", time.monotonic()

    def to_json(self, job: Job) -> dict[str, Any]:
        """State of a job for its owner; ``seconds_left`` is None while too little is done to estimate it."""
        with self._lock:
            waiting = [name for name, each in self._jobs.items() if not each.is_over]
        left = None
        if job.state == "running" and job.begun is not None and job.done >= 0.05:
            left = round((time.monotonic() - job.begun) * (1.0 - job.done) / job.done, 1)
        return {
            "id": job.name,
            "kind": job.kind,
            "state": job.state,
            "done": round(job.done, 3),
            "doing": job.doing,
            "ahead": waiting.index(job.name) if job.state == "waiting" and job.name in waiting else 0,
            "seconds_left": left,
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
            try:
                results = job.work(job)
            except Cancelled:
                job.state = "cancelled"
            except CinesynthError as error:
                job.error = {"message": without_paths(error.message), "hint": without_paths(error.hint)}
                job.state = "failed"
            except Exception:
                log.exception("a job failed")
                job.error = {"message": "the server hit an unexpected error", "hint": "see the server log"}
                job.state = "failed"
            else:
                job.results, job.done, job.doing, job.state = results, 1.0, "", "done"
            job.ended = time.monotonic()
