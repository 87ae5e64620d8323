"""Click the plot in an AppTest, which runs no component JavaScript: write the log that the browser would send."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from streamlit.proto.WidgetStates_pb2 import WidgetState
from streamlit.testing.v1 import AppTest

from explorer.ui.components.spectrum_chart.chart import Logs
from explorer.ui.session.state import name_of


def send_pick(app: AppTest, key: str, points: Mapping[str, Sequence[int]], kind: str = "click") -> AppTest:
    """Deliver one pick to ``spectrum_chart(key=key)`` and rerun.

    Args:
        app: a page that has drawn the chart.
        key: the chart's key.
        points: matrix key -> indices.
        kind: ``"click"``, ``"box"`` or ``"lasso"``.
    """
    log = app.session_state[name_of(Logs)].of[key]
    ranges = [[matrix, [edge for i in indices for edge in (i, i + 1)]] for matrix, indices in points.items()]
    pick = {"seq": log.handled + 1, "kind": kind, "points": ranges}
    value = {"log": {"epoch": log.epoch, "have": [], "picks": [pick]}}
    charts = [node.proto.id for node in app.get("bidi_component") if node.proto.id.endswith(f"-{key}")]
    if len(charts) != 1:
        raise AssertionError(f"expected one chart with the key {key!r}, found {charts}")
    states = app._tree.get_widget_states()
    states.widgets.append(WidgetState(id=charts[0], json_value=json.dumps(value)))
    return app._run(states)
