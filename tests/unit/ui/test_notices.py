"""Notices: every session sees each sentence once."""

from __future__ import annotations

from explorer.ui.session.notices import KEPT, Notices


def test_each_reader_gets_each_sentence_once() -> None:
    notices = Notices()
    assert notices.since(0) == (0, [])
    notices.append("one")
    notices.append("two")
    seen, sentences = notices.since(0)
    assert sentences == ["one", "two"]
    notices.append("three")
    assert notices.since(seen) == (3, ["three"])
    assert notices.since(0) == (3, ["one", "two", "three"])  # another session
    assert notices.since(3) == (3, [])


def test_a_sentence_can_be_added_once() -> None:
    notices = Notices()
    notices.append("one")
    notices.append_once("one")
    notices.append_once("two")
    assert notices.since(0) == (2, ["one", "two"])


def test_only_the_latest_are_kept() -> None:
    notices = Notices()
    for number in range(KEPT + 5):
        notices.append(str(number))
    seen, sentences = notices.since(0)
    assert seen == notices.count == KEPT + 5
    assert sentences == [str(number) for number in range(5, KEPT + 5)]
