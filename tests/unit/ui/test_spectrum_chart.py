"""The log of picks is user input: nothing in it may be applied twice, crash Python, or reach beyond the plot."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from explorer.ui.components.spectrum_chart import Pick, PickLog, Series, apply_picks, spectrum_chart
from explorer.ui.components.spectrum_chart.payload import describe, held_by_browser
from explorer.ui.components.spectrum_chart.plotly_js import ensure_plotly_js
from tests.picks import send_pick


def make_log() -> PickLog:
    return PickLog(epoch="e", shown={"L0.Q.H0": 8, "L0.K.H1": 4})


def entry(seq: object, points: object, kind: object = "click") -> dict[str, object]:
    return {"seq": seq, "kind": kind, "points": points}


def message(*picks: object, epoch: object = "e") -> dict[str, Any]:
    return {"epoch": epoch, "have": [], "picks": list(picks)}


def one_series(removed: frozenset[int] = frozenset()) -> Series:
    return Series("L0.Q.H0", np.arange(8.0, 0.0, -1.0), None, removed, blocks=((2, 3, 4), (6, 7)))


def test_click_and_box_are_expanded_from_ranges() -> None:
    raw = message(
        entry(1, [["L0.Q.H0", [3, 4]]]),
        entry(2, [["L0.Q.H0", [0, 2, 5, 6]], ["L0.K.H1", [3, 4]]], "box"),
    )
    assert make_log().take(raw) == (
        Pick(1, "click", (("L0.Q.H0", (3,)),)),
        Pick(2, "box", (("L0.Q.H0", (0, 1, 5)), ("L0.K.H1", (3,)))),
    )


def test_a_growing_log_hands_out_each_pick_once() -> None:
    log, picks, seen = make_log(), [], []
    for seq in range(1, 30):
        picks.append(entry(seq, [["L0.Q.H0", [seq % 8, seq % 8 + 1]]]))
        if seq % 3 == 0:
            seen += [pick.seq for pick in log.take(message(*picks))]
            assert log.take(message(*picks)) == ()
    seen += [pick.seq for pick in log.take(message(*picks))]
    assert seen == list(range(1, 30))


def test_repeated_and_reordered_numbers_are_dropped() -> None:
    point = [["L0.Q.H0", [0, 1]]]
    raw = message(entry(2, point), entry(2, point), entry(1, point), entry(3, point))
    assert [pick.seq for pick in make_log().take(raw)] == [2, 3]


def test_a_log_of_another_session_is_ignored() -> None:
    log = make_log()
    assert log.take(message(entry(5, [["L0.Q.H0", [0, 1]]]), epoch="other")) == ()
    assert log.handled == 0
    assert PickLog().epoch != PickLog().epoch


@pytest.mark.parametrize(
    "raw",
    [
        None,
        "text",
        7,
        [],
        {},
        {"epoch": "e"},
        {"epoch": "e", "picks": None},
        {"epoch": "e", "picks": "abc"},
        {"epoch": "e", "picks": {"seq": 1}},
        message(None, 3, "x", [], {}),
        message(entry(None, []), entry("1", []), entry(True, []), entry(1.0, []), entry(0, []), entry(-1, [])),
        message(entry(2**60, [["L0.Q.H0", [0, 1]]])),
    ],
)
def test_malformed_logs_yield_nothing_and_handle_nothing(raw: object) -> None:
    log = make_log()
    assert log.take(raw) == ()
    assert log.handled == 0


@pytest.mark.parametrize(
    ("points", "kind"),
    [
        ([["L9.Q.H0", [0, 1]]], "click"),  # unknown matrix
        ([["L0.Q.H0", [8, 9]]], "click"),  # one past the end
        ([["L0.Q.H0", [-1, 0]]], "click"),
        ([["L0.Q.H0", [3, 3]]], "click"),  # empty
        ([["L0.Q.H0", [4, 3]]], "box"),
        ([["L0.Q.H0", [0, 10**12]]], "box"),  # would be huge if expanded
        ([["L0.Q.H0", [0]]], "click"),
        ([["L0.Q.H0", ["0", "1"]]], "click"),
        ([["L0.Q.H0", [0.0, 1.0]]], "click"),
        ([["L0.Q.H0", [False, True]]], "click"),
        ([["L0.Q.H0", None]], "click"),
        ([["L0.Q.H0"]], "click"),
        ([[["L0.Q.H0"], [0, 1]]], "click"),
        ([["L0.Q.H0", [0, 2]]], "click"),  # a click names one point
        ([["L0.Q.H0", [0, 1]], ["L0.K.H1", [0, 1]]], "click"),
        ([["L0.Q.H0", [0, 1]]], "hover"),
        ([["L0.Q.H0", [0, 1]]], ["click"]),
        ({"L0.Q.H0": [0, 1]}, "click"),
        (None, "click"),
    ],
)
def test_invalid_picks_are_dropped_but_count_as_handled(points: object, kind: object) -> None:
    log = make_log()
    good = entry(2, [["L0.Q.H0", [1, 2]]])
    assert [pick.seq for pick in log.take(message(entry(1, points, kind), good))] == [2]
    assert log.handled == 2


def test_valid_parts_of_a_box_survive() -> None:
    raw = message(entry(1, [["L9.V", [0, 4]], ["L0.K.H1", [1, 3, 2, 9]], ["L0.K.H1", [0, 1]]], "box"))
    assert make_log().take(raw) == (Pick(1, "box", (("L0.K.H1", (1, 2)),)),)


def test_a_click_toggles_its_block() -> None:
    click = Pick(1, "click", (("L0.Q.H0", (3,)),))
    assert apply_picks([one_series()], [click]) == {"L0.Q.H0": frozenset({2, 3, 4})}
    assert apply_picks([one_series()], [click], by_block=False) == {"L0.Q.H0": frozenset({3})}
    assert apply_picks([one_series(frozenset({2, 3, 4, 5}))], [click]) == {"L0.Q.H0": frozenset({5})}
    assert apply_picks([one_series()], [click, click]) == {}


def test_asking_for_a_card_names_one_point_and_removes_nothing() -> None:
    raw = message(entry(1, [["L0.Q.H0", [3, 4]]], "card"), entry(2, [["L0.Q.H0", [3, 5]]], "card"))
    (card,) = make_log().take(raw)
    assert card == Pick(1, "card", (("L0.Q.H0", (3,)),))
    assert apply_picks([one_series()], [card]) == {}


def test_a_box_removes_unless_all_of_it_is_removed() -> None:
    box = Pick(1, "box", (("L0.Q.H0", (0, 1, 2)), ("L9.V", (0,))))
    assert apply_picks([one_series(frozenset({0}))], [box]) == {"L0.Q.H0": frozenset({0, 1, 2, 3, 4})}
    assert apply_picks([one_series(frozenset({0, 1, 2, 3, 4, 5}))], [box]) == {"L0.Q.H0": frozenset({5})}


def test_series_rejects_what_cannot_be_drawn() -> None:
    s = np.ones(3)
    with pytest.raises(ValueError, match="finite"):
        Series("L0.Q", np.array([1.0, np.nan]), None, frozenset())
    with pytest.raises(ValueError, match="score has shape"):
        Series("L0.Q", s, np.ones(2), frozenset())
    with pytest.raises(ValueError, match=r"0\.\.2"):
        Series("L0.Q", s, None, frozenset({3}))
    with pytest.raises(ValueError, match=r"0\.\.2"):
        Series("L0.Q", s, None, frozenset(), blocks=((-1, 0),))


def test_arrays_are_sent_once_and_decode_to_what_was_given() -> None:
    series = [one_series(frozenset({0, 7}))]
    first = describe(series, frozenset())
    arrays = first["arrays"]
    assert isinstance(arrays, dict)
    assert len(arrays) == 2
    described = first["series"][0]  # type: ignore[index]
    sent = np.frombuffer(base64.b64decode(arrays[described["s"]]), "<f4")
    np.testing.assert_array_equal(sent, series[0].s)
    numbers = np.frombuffer(base64.b64decode(arrays[described["blocks"]]), "<i4")
    np.testing.assert_array_equal(numbers, [0, 0, 1, 1, 1, 0, 2, 2])
    assert base64.b64decode(described["removed"]) == bytes([0b1000_0001])
    again = describe(series, held_by_browser({"have": list(arrays)}))
    assert again["arrays"] == {}
    assert again["series"] == first["series"]


@pytest.mark.parametrize("raw", [None, [], {"have": "abc"}, {"have": [1, None, ["x"]]}, {}])
def test_nonsense_about_held_arrays_means_none_held(raw: object) -> None:
    assert held_by_browser(raw) == frozenset()


def test_plotly_js_has_a_versioned_local_url() -> None:
    url = ensure_plotly_js()
    assert url.startswith("/_stcore/bidi-components/eigenprune.plotly_js/plotly.min.js?v=")


def page_with_callback() -> None:
    import numpy as np
    import streamlit as st

    from explorer.ui.components.spectrum_chart import Series, apply_picks, spectrum_chart

    def series() -> list[Series]:
        removed = frozenset(st.session_state.get("removed", ()))
        return [Series("L0.Q.H0", np.arange(8.0, 0.0, -1.0), None, removed, blocks=((2, 3),))]

    def on_pick(picks: tuple) -> None:
        for indices in apply_picks(series(), picks).values():
            st.session_state.removed = sorted(indices)

    st.session_state.runs = st.session_state.get("runs", 0) + 1
    assert spectrum_chart(series(), key="plot", on_pick=on_pick) == ()
    st.text(str(st.session_state.get("removed", [])))


def test_on_pick_runs_before_the_body_so_one_pick_costs_one_rerun() -> None:
    app = AppTest.from_function(page_with_callback, default_timeout=30).run()
    assert not app.exception
    send_pick(app, "plot", {"L0.Q.H0": [2]})
    assert not app.exception
    assert app.text[0].value == "[2, 3]"
    assert app.session_state.runs == 2
    app.run()  # the browser still holds the log
    assert app.text[0].value == "[2, 3]"
    send_pick(app, "plot", {"L0.Q.H0": [8]})  # out of range
    assert app.text[0].value == "[2, 3]"
    send_pick(app, "plot", {"L0.Q.H0": [2, 3, 5]}, "box")
    assert app.text[0].value == "[2, 3, 5]"


def test_two_series_with_one_key_are_refused() -> None:
    with pytest.raises(ValueError, match="own matrix key"):
        spectrum_chart([one_series(), one_series()], key="twice")
