"""A study of a small model measures every value; of a larger one, or on demand, a sample."""

from __future__ import annotations

import pytest

from explorer.attribution.exact import exact_effects
from explorer.core.errors import SettingsError
from explorer.experiments import study as studies
from explorer.experiments.study import ALL, StudyOptions, study_scorers
from explorer.measure.batches import batches
from explorer.models import View
from explorer.models.matrices import matrices
from explorer.spectra.cache import SvdCache
from tests import tiny


@pytest.mark.slow
def test_every_value_of_a_small_model_is_measured(view: View, svds: SvdCache) -> None:
    keys, task = matrices(view), tiny.task()
    values = [(key, index) for key in keys for index in range(svds.get(view, key).rank)]
    study = study_scorers(view, task, svds, keys, scorers=["gradient", "exact"])
    assert sorted((one.matrix, one.index) for one in study.sample) == sorted(values)
    effects = exact_effects(view, batches(view, task, task.train), svds, values).values
    for one in study.sample:
        assert one.exact == pytest.approx(effects[one.matrix, one.index].value, abs=1e-6)
    found = study.trust["exact", ALL, ALL]
    assert found.n == len(values)
    assert found.spearman == pytest.approx(1, abs=1e-6)
    assert study.trust["gradient", ALL, ALL].spearman < found.spearman


def test_more_values_than_that_are_sampled(view: View, svds: SvdCache, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, task = matrices(view), tiny.task()
    few = StudyOptions(per_kind=4, extremes=0)
    asked = study_scorers(view, task, svds, keys, scorers=["magnitude"], options=few)
    assert len(asked.sample) == 4 * len({key.kind for key in keys})
    monkeypatch.setattr(studies, "WHOLE", 100)
    monkeypatch.setattr(studies, "SAMPLED", 5)
    usual = study_scorers(view, task, svds, keys, scorers=["magnitude"], options=StudyOptions(extremes=0))
    assert len(usual.sample) == 5 * len({key.kind for key in keys})
    with pytest.raises(SettingsError, match="2 or more values per kind"):
        study_scorers(view, task, svds, keys, options=StudyOptions(per_kind=1))
