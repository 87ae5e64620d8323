"""The session as a page: made in the Share popover, it shows the figures that the session shows."""

from __future__ import annotations

from typing import Any

import pytest

from explorer.attribution import Scores
from explorer.plots.session_page import SharedSession, session_page
from tests.pages.app import Engine, click, open_page, settled, upload


def test_a_session_becomes_a_page(engine: Engine, scores: Scores, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def kept(shared: SharedSession) -> str:
        made.append(shared)
        return session_page(shared)

    monkeypatch.setattr("explorer.ui.shell.bundles.session_page", kept)
    app = open_page("Prune")
    app.session_state["share"] = True
    app = settled(app.run())
    assert app.button(key="bundle-go").disabled  # nothing is removed yet
    mask = engine.lowest(scores, 3)
    app = upload(app, mask.to_json().encode(), "three.json")
    app.session_state["share"] = True
    app = click(settled(app.run()), "bundle-go")
    assert "Download page" in [one.proto.label for one in app.get("download_button")]
    shared = made[-1]
    expected = engine.compare(mask)
    assert shared.comparison.masked.loss == pytest.approx(expected.masked.loss, abs=1e-5)
    assert shared.comparison.baseline.correct == expected.baseline.correct
    (control,) = shared.controls.values()
    assert control.draws == 5
    assert set(shared.spectra) == set(mask.by_matrix)
    key = mask.removed[0].key
    assert shared.scores[str(key), mask.removed[0].index] == pytest.approx(
        float(scores.matrices[key].score[mask.removed[0].index]), abs=1e-6
    )
    assert shared.history[-1][1] == 3
    assert "--mask mask.json" in shared.commands[-1][1]
