"""Exact effects of the process: added from anywhere, bounded by places."""

from __future__ import annotations

from explorer.core.keys import MatrixKey
from explorer.measure.metrics import Mean
from explorer.ui.jobs.effects_seen import EffectsSeen

Q, K = MatrixKey.parse("L0.Q.H0"), MatrixKey.parse("L0.K.H0")


def test_effects_of_a_place_add_up_and_old_places_go() -> None:
    seen = EffectsSeen(places=2)
    one, two = Mean(1.0, 0.1, 5), Mean(2.0, 0.1, 5)
    seen.add("a", {(Q, 0): one})
    seen.add("b", {(Q, 0): two})
    seen.add("a", {(K, 1): two})
    assert seen.at("a") == {(Q, 0): one, (K, 1): two}
    seen.add("c", {(Q, 0): one})
    assert seen.at("b") == {}
    assert len(seen.at("a")) == 2
