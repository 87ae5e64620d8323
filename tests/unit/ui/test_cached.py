"""What a newer choice outdates is stopped, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from explorer.core.progress import Progress
from explorer.ui.jobs import cached
from explorer.ui.jobs.runner import JobRunner, JobState, Key
from explorer.ui.session import state

SECONDS = 10.0


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Iterator[JobRunner]:
    found = JobRunner(workers=2)
    monkeypatch.setattr(cached, "runner", lambda: found)
    monkeypatch.setattr(state, "st", SimpleNamespace(session_state={}))
    yield found
    found.close()


def test_only_another_measurement_in_the_same_slot_stops_the_one_under_way(runner: JobRunner) -> None:
    gate = threading.Event()

    def work(progress: Progress) -> None:
        while not gate.wait(0.01):
            progress(0, 1)

    first: Key = ("evaluation", 1)
    job, beside = runner.submit(first, "first", work), runner.submit(("live", 1), "beside", work)
    cached.only("whole", first)
    cached.only("whole", first)  # the same again
    cached.only("live", ("live", 1))
    assert job.active
    cached.only("whole", ("evaluation", 2))
    assert job.wait(SECONDS)
    assert job.state is JobState.STOPPED
    assert runner.find(first) is None  # asked for again, it starts anew
    assert beside.active
    gate.set()
    assert beside.wait(SECONDS)
    cached.only("live", ("live", 2))
    assert runner.find(("live", 1)) is beside  # what is done is kept
