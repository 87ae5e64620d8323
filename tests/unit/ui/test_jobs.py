"""The job runner: progress, stopping, failing, finding work again, bounds."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from explorer.core.errors import TaskError
from explorer.core.progress import Progress
from explorer.ui.jobs.runner import Job, JobRunner, JobState

SOON = 10.0


@pytest.fixture
def runner() -> Iterator[JobRunner]:
    made = JobRunner(workers=1, keep={"short": 2}, default_keep=3)
    yield made
    made.close()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Steps:
    """Work of several steps that waits for a sign before each one."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.go = threading.Semaphore(0)
        self.done = 0

    def __call__(self, progress: Progress) -> str:
        for step in range(self.count):
            assert self.go.acquire(timeout=SOON)
            self.done = step + 1
            progress(step + 1, self.count)
        return "result"


def test_progress_and_result_are_seen_from_outside(runner: JobRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0
    monkeypatch.setattr("explorer.ui.jobs.runner.time", SimpleNamespace(monotonic=lambda: clock))
    work = Steps(4)
    job = runner.submit(("a", 1), "Working", work)
    wait_until(lambda: job.state is JobState.RUNNING)
    assert job.active
    assert not job.wait(0.01)
    assert job.seconds_left is None
    for step in (1, 2, 3):
        clock += 2.0
        work.go.release()
        wait_until(lambda step=step: job.done == step)
    assert job.total == 4
    assert job.seconds_left == pytest.approx(2.0)
    work.go.release()
    assert job.wait(SOON)
    assert (job.state, job.result, job.error) == (JobState.DONE, "result", None)


def test_a_stopped_job_ends_at_its_next_step_without_a_result(runner: JobRunner) -> None:
    work = Steps(3)
    job = runner.submit(("a", 1), "Working", work)
    wait_until(lambda: job.state is JobState.RUNNING)
    job.stop()
    work.go.release(3)
    assert job.wait(SOON)
    assert (job.state, job.result, job.error) == (JobState.STOPPED, None, None)
    assert work.done == 1


def test_a_queued_job_waits_its_turn_and_can_be_stopped_before_it(runner: JobRunner) -> None:
    first, second, third = Steps(1), Steps(1), Steps(1)
    running = runner.submit(("a", 1), "First", first)
    queued, last = runner.submit(("a", 2), "Second", second), runner.submit(("a", 3), "Third", third)
    wait_until(lambda: running.state is JobState.RUNNING)
    assert queued.state is last.state is JobState.WAITING
    queued.stop()
    assert queued.state is JobState.STOPPED
    first.go.release()
    third.go.release()
    assert last.wait(SOON)
    assert last.state is JobState.DONE
    assert second.done == 0


def test_a_failure_that_the_user_can_fix_is_its_sentence(runner: JobRunner, caplog: pytest.LogCaptureFixture) -> None:
    def work(progress: Progress) -> None:
        raise TaskError("the file is empty: add a line.")

    job = runner.submit(("a", 1), "Reading", work)
    assert job.wait(SOON)
    assert (job.state, job.error) == (JobState.FAILED, "the file is empty: add a line.")
    assert not caplog.records


def test_an_unexpected_exception_is_logged_and_not_raised(runner: JobRunner, caplog: pytest.LogCaptureFixture) -> None:
    def work(progress: Progress) -> None:
        raise RuntimeError("shape mismatch")

    with caplog.at_level(logging.ERROR):
        job = runner.submit(("a", 1), "Reading", work)
        assert job.wait(SOON)
    assert job.state is JobState.FAILED
    assert job.error == "Reading failed unexpectedly (shape mismatch); the log has the details."
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is RuntimeError
    assert runner.submit(("a", 2), "Next", lambda progress: 1).wait(SOON)


def test_too_little_memory_is_a_sentence(runner: JobRunner) -> None:
    def work(progress: Progress) -> None:
        raise MemoryError

    job = runner.submit(("a", 1), "Reading", work)
    assert job.wait(SOON)
    assert job.error == "Reading: there is not enough memory for this; choose less."


@pytest.mark.parametrize("outcome", [JobState.DONE, JobState.FAILED, JobState.STOPPED])
def test_equal_keys_are_one_job_until_it_is_forgotten(runner: JobRunner, outcome: JobState) -> None:
    calls = []

    def work(progress: Progress) -> int:
        calls.append(1)
        if outcome is JobState.FAILED:
            raise TaskError("no.")
        if outcome is JobState.STOPPED:
            job.stop()
            progress(1, 2)
        return len(calls)

    gate = threading.Event()
    runner.submit(("other", 0), "Hold", lambda progress: gate.wait(SOON))
    job = runner.submit(("a", 1), "Working", work)
    gate.set()
    assert job.wait(SOON)
    assert job.state is outcome
    assert runner.submit(("a", 1), "Working", work) is job
    assert runner.find(("a", 1)) is job
    assert len(calls) == 1
    runner.forget(("a", 1))
    assert runner.find(("a", 1)) is None
    job = runner.submit(("a", 1), "Working", work)
    assert job.wait(SOON)
    assert len(calls) == 2


def test_two_threads_that_ask_at_once_get_one_job(runner: JobRunner) -> None:
    started = threading.Barrier(8)
    found: list[Job] = []
    calls = []

    def ask() -> None:
        started.wait(SOON)
        found.append(runner.submit(("a", 1), "Working", lambda progress: calls.append(1)))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert found[0].wait(SOON)
    assert len(set(map(id, found))) == len(calls) == 1


def test_a_running_job_is_not_forgotten_but_can_be_dropped(runner: JobRunner) -> None:
    work = Steps(2)
    job = runner.submit(("a", 1), "Working", work)
    wait_until(lambda: job.state is JobState.RUNNING)
    runner.forget(("a", 1))
    assert runner.find(("a", 1)) is job
    runner.drop(("a", 1))
    assert runner.find(("a", 1)) is None
    again = runner.submit(("a", 1), "Working", lambda progress: "anew")
    work.go.release(2)
    assert again.wait(SOON)
    assert (job.state, again.state, again.result) == (JobState.STOPPED, JobState.DONE, "anew")
    runner.drop(("never", 0))


def test_only_the_most_recently_used_results_of_a_sort_are_kept(runner: JobRunner) -> None:
    def submit(sort: str, number: int) -> None:
        assert runner.submit((sort, number), "Working", lambda progress: number).wait(SOON)

    for number in range(3):
        submit("short", number)
        submit("other", number)
    submit("short", 0)  # asked for again: now the latest
    submit("short", 3)
    submit("short", 4)
    kept = [number for number in range(5) if runner.find(("short", number)) is not None]
    assert kept == [0, 3, 4]  # `keep` results, and the one that has just been added
    assert all(runner.find(("other", number)) is not None for number in range(3))


def test_closing_stops_what_runs_and_what_waits() -> None:
    runner = JobRunner(workers=1)
    work = Steps(10**6)
    running = runner.submit(("a", 1), "Working", work)
    waiting = runner.submit(("a", 2), "Working", work)
    wait_until(lambda: running.state is JobState.RUNNING)
    work.go.release(10**5)
    runner.close()
    assert running.state is waiting.state is JobState.STOPPED
    assert not any(thread.is_alive() for thread in runner._threads)


def test_work_under_way_does_not_hold_up_the_end_of_the_process() -> None:
    program = """
import threading, time
from explorer.ui.jobs.runner import JobRunner

began = threading.Event()

def work(progress):
    for step in range(10_000):
        progress(step, 10_000)
        began.set()
        time.sleep(0.05)

runner = JobRunner(workers=2)
jobs = [runner.submit(("a", n), "Working", work) for n in range(4)]
assert began.wait(20)
"""
    began = time.monotonic()
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert time.monotonic() - began < 30


def test_long_jobs_of_one_owner_do_not_hold_up_another() -> None:
    owner = "a"
    runner = JobRunner(workers=2, owner=lambda: owner)
    try:
        long = [Steps(1) for _ in range(4)]
        first = [runner.submit(("long", n), "Long", work) for n, work in enumerate(long)]
        wait_until(lambda: [job.state for job in first].count(JobState.RUNNING) == 2)
        owner = "b"
        assert runner.submit(("short", 1), "Short", lambda progress: 1).wait(SOON)
        assert runner.submit(("short", 2), "Short", lambda progress: 2).wait(SOON)
        assert not any(job.state is JobState.DONE for job in first)
        for work in long:
            work.go.release()
        assert all(job.wait(SOON) for job in first)
    finally:
        runner.close()


def test_threads_are_bounded_and_further_owners_wait() -> None:
    owner = 0
    runner = JobRunner(workers=1, urgent=0, most=3, owner=lambda: owner)
    try:
        work = [Steps(1) for _ in range(5)]
        jobs = []
        for owner, one in enumerate(work):
            jobs.append(runner.submit(("long", owner), "Long", one))
        wait_until(lambda: [job.state for job in jobs].count(JobState.RUNNING) == 3)
        assert [job.state for job in jobs].count(JobState.WAITING) == 2
        for one in work:
            one.go.release()
        assert all(job.wait(SOON) for job in jobs)
        wait_until(lambda: sum(thread.is_alive() for thread in runner._threads) == 1)
    finally:
        runner.close()


def test_urgent_work_has_its_own_thread_and_others_pause_meanwhile(runner: JobRunner) -> None:
    slow, urgent = Steps(2), Steps(1)
    background = runner.submit(("a", 1), "Background", slow)
    wait_until(lambda: background.state is JobState.RUNNING)
    first = runner.submit(("live", 1), "Urgent", urgent, urgent=True)
    wait_until(lambda: first.state is JobState.RUNNING)
    slow.go.release(2)
    wait_until(lambda: slow.done == 1)
    time.sleep(0.05)
    assert slow.done == 1  # it waits inside its report of the first step
    urgent.go.release()
    assert first.wait(SOON)
    assert background.wait(SOON)
    assert slow.done == 2


def test_work_is_let_go_when_it_begins(runner: JobRunner) -> None:
    import weakref

    work = Steps(1)
    seen = weakref.ref(work)
    job = runner.submit(("a", 1), "Working", work)
    work.go.release()
    assert job.wait(SOON)
    del work
    wait_until(lambda: seen() is None)


def test_with_its_owner_goes_what_nobody_else_asked_for() -> None:
    owner = "a"
    runner = JobRunner(workers=4, for_anybody=("model",), owner=lambda: owner)
    try:
        work = [Steps(2) for _ in range(3)]
        own, shared = (runner.submit(("long", n), "Long", work[n]) for n in range(2))
        asked = runner.submit(("search", 1), "Search", work[2], owner=("search", "a"))
        for sort in ("model", "figures"):
            assert runner.submit((sort, 1), "Short", lambda progress: 1).wait(SOON)
        wait_until(lambda: all(job.state is JobState.RUNNING for job in (own, shared, asked)))
        owner = "b"
        assert runner.submit(("long", 1), "Long", work[1]) is shared
        runner.leave("a")
        for one in work:
            one.go.release(2)
        assert all(job.wait(SOON) for job in (own, shared, asked))
        assert (own.state, shared.state, asked.state) == (JobState.STOPPED, JobState.DONE, JobState.DONE)
        assert runner.find(("long", 0)) is None
        assert runner.find(("long", 1)) is shared
        assert runner.find(("figures", 1)) is None
        assert runner.find(("model", 1)) is not None
        runner.leave("b")
        assert runner.find(("long", 1)) is None
        assert runner.find(("search", 1)) is asked
    finally:
        runner.close()


def test_work_that_is_stopped_before_it_begins_is_let_go(runner: JobRunner) -> None:
    import weakref

    first, second = Steps(1), Steps(1)
    running = runner.submit(("a", 1), "First", first)
    wait_until(lambda: running.state is JobState.RUNNING)
    seen = weakref.ref(second)
    job = runner.submit(("a", 2), "Second", second)
    del second
    job.stop()
    assert seen() is None
    first.go.release()
