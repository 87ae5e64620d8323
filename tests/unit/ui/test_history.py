"""Undo, redo, jumps and forks: always the masks that were pushed, never more than the depth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.core.errors import MaskError
from explorer.masks.mask import Mask, ModelIdentity, Removed
from explorer.ui.session import history as module
from explorer.ui.session.history import FORKS, History, Lines, Step, change_text

IDENTITY = ModelIdentity(source="m", digest="sha256:" + "0" * 64)


def mask(number: int) -> Mask:
    """A mask of its own for every number; 0 removes nothing."""
    removed = tuple(Removed(matrix="L0.Q.H0", index=i, sigma=1.0) for i in range(number))
    return Mask(model=IDENTITY, removed=removed)


START = History.start(mask(0))


def test_a_new_history_can_go_nowhere() -> None:
    assert START.mask == mask(0)
    assert not START.can_undo
    assert not START.can_redo
    assert START.undo() == START.redo() == START


def test_push_undo_redo() -> None:
    history = START.push(mask(1)).push(mask(2))
    back = history.undo()
    assert (history.mask, back.mask, back.redo().mask) == (mask(2), mask(1), mask(2))
    assert back.can_undo
    assert back.can_redo
    assert not history.can_redo
    branch = back.push(mask(3))
    assert branch.mask == mask(3)
    assert not branch.can_redo
    assert branch.undo().mask == mask(1)
    assert history.masks == (mask(0), mask(1), mask(2))  # values: the earlier ones are as they were


def test_an_equal_mask_is_no_step() -> None:
    history = START.push(mask(1))
    assert history.push(mask(1)) is history
    back = history.undo()
    assert back.push(mask(0)).can_redo


def test_the_oldest_masks_beyond_the_depth_are_forgotten() -> None:
    history = START
    for number in range(1, module.DEPTH + 5):
        history = history.push(mask(1 + number % 3))
    assert len(history.masks) == module.DEPTH
    for _ in range(module.DEPTH + 5):
        history = history.undo()
    assert not history.can_undo
    assert history.position == 0


def test_a_jump_goes_to_any_step_and_forgets_none() -> None:
    history = START.push(mask(1)).push(mask(2), "lowest 2").push(mask(0))
    assert [step.label for step in history.steps] == ["start", "+1 L0.Q.H0", "lowest 2", "restored all"]
    for position in (0, 2, 3, 1):
        history = history.jump(position)
        assert (history.position, history.mask) == (position, history.masks[position])
    assert len(history.steps) == 4
    assert history.jump(-5).position == 0
    assert history.jump(99).position == 3
    assert history.nearest(mask(2).digest) == 2
    assert history.nearest(mask(2).digest[:19]) == 2
    assert history.jump(3).nearest(mask(0).digest) == 3
    assert history.nearest(mask(5).digest) is None


def values(c: float = 0.0, **removed: tuple[int, ...]) -> Mask:
    places = ((name.replace("_", "."), index) for name, indices in removed.items() for index in indices)
    return Mask(model=IDENTITY, removed=tuple(Removed(matrix=m, index=i, sigma=1.0, c=c) for m, i in places))


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (values(), values(L2_Q_H1=(0, 3, 4)), "+3 L2.Q.H1"),
        (values(L2_Q_H1=(0, 3, 4)), values(L2_Q_H1=(3,)), "−2 L2.Q.H1"),
        (values(L2_Q_H1=(0, 3)), values(L2_Q_H1=(3, 5, 6)), "+2 −1 L2.Q.H1"),
        (values(L2_Q_H1=(0,), L0_OUT=(1,)), values(L0_K=(1, 2, 3), L0_OUT=(1,)), "+3 −1 in 2 matrices"),
        (values(L2_Q_H1=(0,)), values(), "restored all"),
        (mask(1), mask(1).model_copy(update={"mode": "zero"}), "mode zero"),
        (mask(1), mask(1).scaled(0.5), "scaled to 50 %"),
        (mask(1).scaled(0.5), mask(1), "removed"),
        (mask(1), mask(2).scaled(0.5), "+1 L0.Q.H0"),
        (values(L0_OUT=(0,)), values(c=2.0, L0_OUT=(0,)), "other frozen means"),
    ],
)
def test_a_step_says_what_changed(before: Mask, after: Mask, text: str) -> None:
    assert change_text(before, after) == text


def test_forks_keep_apart() -> None:
    lines = Lines.start(START.push(mask(1))).fork(" try \n more ")
    assert lines.names == ("main", "try more")
    assert (lines.mask, lines.line.name) == (mask(1), "try more")
    assert lines.history.steps == (Step(mask(1), "forked from main"),)
    lines = lines.changed(lines.history.push(mask(3)))
    assert lines.switch("main").mask == mask(1)
    assert lines.switch("main").history.can_undo
    back = lines.switch("main").changed(START.push(mask(2))).switch("try more")
    assert back.mask == mask(3)
    assert back.history.undo().mask == mask(1)
    assert lines.switch("nowhere") is lines


def test_a_closed_fork_can_be_opened_again() -> None:
    lines = Lines.start(START).fork("a")
    lines = lines.changed(lines.history.push(mask(2)))
    closed = lines.close()
    assert (closed.names, closed.mask) == (("main",), mask(0))
    assert closed.close() is closed  # the last one stays
    assert closed.reopen().names == ("main", "a")
    assert closed.reopen().history == lines.history
    assert closed.fork("a").switch("main").close().names == ("a",)
    taken = Lines.start(START).fork("b").close().fork("b").reopen()
    assert taken.names == ("main", "b", "b again")  # the name is taken by now


def test_a_fork_without_a_usable_name_is_a_sentence() -> None:
    lines = Lines.start(START)
    for name, reason in (("main", "there is a fork 'main' already"), (" ", "1 to 60"), ("x" * 61, "1 to 60")):
        with pytest.raises(MaskError, match=reason):
            lines.fork(name)
    while len(lines.lines) < FORKS:
        lines = lines.fork(lines.free_name)
    with pytest.raises(MaskError, match="close one of them first"):
        lines.fork("one more")


@given(st.lists(st.one_of(st.sampled_from(["undo", "redo"]), st.integers(0, 6)), max_size=60))
def test_any_series_of_steps_is_what_two_stacks_would_do(steps: list[str | int]) -> None:
    history, past, now, future = START, list[int](), 0, list[int]()
    for step in steps:
        if step == "undo":
            history = history.undo()
            if past:
                future.append(now)
                now = past.pop()
        elif step == "redo":
            history = history.redo()
            if future:
                past.append(now)
                now = future.pop()
        else:
            number = int(step)
            history = history.push(mask(number))
            if number != now:
                past, now, future = [*past, now], number, []
        assert (history.mask, history.can_undo, history.can_redo) == (mask(now), bool(past), bool(future))


def test_all_masks_of_a_line_together_are_bounded_and_a_step_back_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "VALUES", 10)
    history = START
    for number in (1, 2, 3, 4, 5):
        history = history.push(mask(number))
    assert [len(step.mask) for step in history.steps] == [4, 5]
    history = history.push(mask(20))
    assert [len(step.mask) for step in history.steps] == [5, 20]
    assert history.undo().mask == mask(5)
    history = history.push(mask(1))
    assert [len(step.mask) for step in history.steps] == [20, 1]
    assert [len(step.mask) for step in history.push(mask(2)).push(mask(3)).steps] == [1, 2, 3]
