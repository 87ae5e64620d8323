"""Progress of hub downloads, without a hub."""

import pytest

from explorer.core.errors import Stopped
from explorer.models.hub import reason, reporting


def test_bytes_are_reported_and_nothing_is_drawn(capfd):
    told = []
    bar = reporting(lambda done, total: told.append((done, total)))(total=100, unit="B", desc="x")
    bar.update(30)
    bar.update(90)
    bar.close()
    assert told == [(30, 100), (100, 100)]
    assert capfd.readouterr() == ("", "")


def test_bars_over_files_are_not_mixed_with_bytes():
    told = []
    bar = reporting(lambda done, total: told.append((done, total)))(total=3)
    bar.update(1)
    bar.close()
    assert told == []


def test_a_download_can_be_stopped():
    def stop(done, total):
        raise Stopped

    bar = reporting(stop)(total=100, unit="B")
    with pytest.raises(Stopped):
        bar.update(1)
    bar.close()


def test_reasons_are_one_short_line():
    assert reason(ValueError("first\nsecond")) == "first"
    assert reason(ValueError()) == "ValueError"
    assert len(reason(ValueError("x" * 1000))) == 160
