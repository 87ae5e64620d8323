"""Undo and redo: always the masks that were pushed, never more than the depth."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from explorer.masks import Mask, ModelIdentity, Removed
from explorer.ui import history as module
from explorer.ui.history import History

IDENTITY = ModelIdentity(source="m", digest="sha256:" + "0" * 64)


def mask(number: int) -> Mask:
    """A mask of its own for every number; 0 removes nothing."""
    removed = tuple(Removed(matrix="L0.Q.H0", index=i, sigma=1.0) for i in range(number))
    return Mask(model=IDENTITY, removed=removed)


START = History((mask(0),))


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
