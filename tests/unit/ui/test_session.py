"""A session's mask: autosaved under its token, restored by it, and nothing else ever reached by a URL."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from explorer.core.config import settings
from explorer.core.errors import MaskError
from explorer.masks.mask import Mask, ModelIdentity, Removed
from explorer.models import Model
from explorer.ui.components.spectrum_chart import chart
from explorer.ui.session import autosave, session, state
from explorer.ui.session.history import History, Lines
from explorer.ui.session.notices import Notices
from explorer.ui.shell import mask_panel

DIGEST = "sha256:" + "a1" * 32
WEIGHTS = "sha256:" + "c3" * 32
IDENTITY = ModelIdentity(source="m", digest=DIGEST, weights=WEIGHTS, dtype="float32")
_PARTS: dict[str, Any] = {
    "source": SimpleNamespace(origin="m", revision=None),
    "parts": SimpleNamespace(weights=WEIGHTS),
}
MODEL = cast(
    Model, SimpleNamespace(digest=DIGEST, basis="raw", against=None, earlier=frozenset(), dtype="float32", **_PARTS)
)
PATHLIKE = [
    "../../../etc",
    "..%2f..%2fetc",
    "/etc/passwd",
    "0123456789ab/../x",
    "0123456789AB",
    "0123456789ab\n",
    "0123456789abc",
    "0123456789a",
    "",
    "\x000123456789a",
    "٠١٢٣٤٥٦٧٨٩٠١",
]


class Browser:
    """What Streamlit keeps for one tab: `reload` keeps the URL and begins a new session."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.url: dict[str, str] = {}
        self.reload()

    def reload(self) -> None:
        self.state: dict[str, Any] = {}
        self._monkeypatch.setattr(session, "st", SimpleNamespace(query_params=self.url))
        self._monkeypatch.setattr(state, "st", SimpleNamespace(session_state=self.state))


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Browser:
    return Browser(monkeypatch)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Notices:
    notices = Notices()
    monkeypatch.setattr(session, "notices", lambda: notices)
    return notices


def mask(count: int) -> Mask:
    removed = tuple(Removed(matrix="L0.Q.H0", index=i, sigma=1.0 / (i + 1), c=0.25) for i in range(count))
    return Mask(model=IDENTITY, removed=removed)


def autosaved() -> list[Path]:
    return sorted((settings().workspace_dir / "autosave").glob("*"))


def test_the_token_is_made_once_and_put_into_the_url(browser: Browser) -> None:
    token = session.token()
    assert re.fullmatch("[0-9a-f]{12}", token)
    assert browser.url == {"session": token}
    browser.url.clear()  # another page of the app has been opened
    assert session.token() == token
    assert browser.url == {"session": token}
    browser.reload()
    assert session.token() == token
    other = Browser(browser._monkeypatch)
    assert other.url == {}
    assert session.token() != token


@pytest.mark.parametrize("given_token", PATHLIKE)
def test_a_malformed_token_is_replaced(browser: Browser, given_token: str) -> None:
    browser.url["session"] = given_token
    token = session.token()
    assert token != given_token
    assert re.fullmatch("[0-9a-f]{12}", token)
    assert browser.url["session"] == token


@given(token=st.one_of(st.sampled_from(PATHLIKE), st.text(max_size=40), st.from_regex(r"[./a-f0-9]{12}")))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_no_token_reaches_a_file_outside_the_autosave_folder(browser: Browser, token: str) -> None:
    browser.url["session"] = token
    browser.reload()
    assert session.change_mask(MODEL, lambda _: mask(1))
    path = session._autosave_path(MODEL)
    assert path.parent == settings().workspace_dir / "autosave"
    assert path.is_file()
    assert re.fullmatch(r"[0-9a-f]{12}-[0-9a-f]{12}\.json", path.name)


def test_a_reload_restores_the_mask_and_another_session_does_not_see_it(browser: Browser) -> None:
    session.token()
    assert len(session.history(MODEL).mask) == 0
    session.change_mask(MODEL, lambda _: mask(3))
    browser.reload()
    restored = session.history(MODEL)
    assert restored.mask == mask(3)
    assert restored.can_undo  # back to nothing removed
    Browser(browser._monkeypatch)
    assert len(session.history(MODEL).mask) == 0


def test_undo_and_redo_are_autosaved_too(browser: Browser) -> None:
    session.change_mask(MODEL, lambda _: mask(2))
    session.step(MODEL, History.undo)
    browser.reload()
    assert len(session.history(MODEL).mask) == 0
    session.step(MODEL, History.redo)
    browser.reload()
    assert len(session.history(MODEL).mask) == 2


def test_a_reload_restores_the_steps_and_the_forks(browser: Browser) -> None:
    for count in (1, 2, 3):
        session.change_mask(MODEL, lambda _, count=count: mask(count), f"lowest {count}")
    session.step(MODEL, History.undo)
    session.change_lines(MODEL, lambda lines: lines.fork("other"))
    session.change_mask(MODEL, lambda _: mask(5))
    before = session.lines(MODEL)
    browser.reload()
    assert session.lines(MODEL) == before
    session.change_lines(MODEL, lambda lines: lines.switch("main"))
    assert session.history(MODEL).mask == mask(2)
    session.step(MODEL, lambda line: line.jump(1))
    assert session.history(MODEL).mask == mask(1)
    assert [step.label for step in session.history(MODEL).steps] == ["start", "lowest 1", "lowest 2", "lowest 3"]


def test_an_autosave_of_before_comes_back_with_a_notice(browser: Browser, told: Notices) -> None:
    session.change_mask(MODEL, lambda _: mask(3), "three")
    path = next((settings().workspace_dir / "autosave").glob(f"{session.token()}-*.json"))
    old = session.lines(MODEL).of_model(ModelIdentity(source="m", digest=WEIGHTS))
    path.unlink()
    autosave.save(path.with_name(f"{session.token()}-{WEIGHTS[7:19]}.json"), old)
    browser.reload()
    assert session.history(MODEL).mask == mask(3)
    assert [step.label for step in session.history(MODEL).steps] == ["start", "three"]
    assert [text.split(":")[0] for text in told.since(0)[1]] == [
        "The autosaved masks identify the model's weights alone"
    ]


def test_an_autosave_holds_the_newest_steps_that_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autosave, "KEPT_VALUES", 10)
    history = History.start(mask(0))
    for count in (1, 2, 3, 4, 1):
        history = history.push(mask(count))
    for position, kept in ((5, [2, 3, 4, 1]), (0, [0, 1, 2, 3, 4]), (3, [0, 1, 2, 3, 4])):
        autosave.save(tmp_path / "lines.json", Lines.start(history.jump(position)))
        found = autosave.load(tmp_path / "lines.json").history
        assert [len(one) for one in found.masks] == kept
        assert found.mask == history.jump(position).mask
    autosave.save(tmp_path / "lines.json", Lines.start(history.push(mask(50))))
    assert autosave.load(tmp_path / "lines.json").history.masks == (mask(50),)  # the current one always


def test_going_to_a_mask_finds_it_where_it_is(browser: Browser) -> None:
    session.change_mask(MODEL, lambda _: mask(1))
    session.change_mask(MODEL, lambda _: mask(2))
    session.go_to(MODEL, mask(1), "back")
    assert (session.history(MODEL).position, len(session.history(MODEL).steps)) == (1, 3)
    session.change_lines(MODEL, lambda lines: lines.fork("other"))
    session.change_mask(MODEL, lambda _: mask(4))
    session.change_lines(MODEL, lambda lines: lines.switch("main"))
    session.go_to(MODEL, mask(4), "back")
    assert session.lines(MODEL).line.name == "other"
    session.go_to(MODEL, mask(6), "back")
    assert [step.label for step in session.history(MODEL).steps][-1] == "back"
    assert session.history(MODEL).undo().mask == mask(4)


def test_a_damaged_or_foreign_autosave_is_told_and_passed_over(browser: Browser, told: Notices) -> None:
    path = session._autosave_path(MODEL)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"format": "eigenprune-mask", "sch')
    assert len(session.history(MODEL).mask) == 0
    foreign = ModelIdentity(source="n", digest="sha256:" + "b2" * 32)
    autosave.save(path, Lines.start(History.start(Mask(model=foreign))))
    browser.reload()
    assert len(session.history(MODEL).mask) == 0
    _, sentences = told.since(0)
    assert [sentence.split(":")[0] for sentence in sentences] == ["The autosaved mask could not be restored"] * 2
    assert "not for m" in sentences[1]


def test_a_place_that_cannot_be_written_is_told_once_and_the_mask_is_kept(
    browser: Browser, told: Notices, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("EIGENPRUNE_WORKSPACE", str(blocked))
    settings.cache_clear()
    for count in (1, 2):
        assert session.change_mask(MODEL, lambda _, count=count: mask(count))
    assert session.history(MODEL).mask == mask(2)
    _, sentences = told.since(0)
    assert len(sentences) == 1
    assert "cannot be autosaved" in sentences[0]


def test_old_autosaves_are_deleted(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "SAVED_SESSIONS", 3)
    for age in range(5):
        Browser(monkeypatch)
        session.change_mask(MODEL, lambda _: mask(1))
        os.utime(session._autosave_path(MODEL), (1_000_000 + age, 1_000_000 + age))
    session.change_mask(MODEL, lambda _: mask(2))
    assert len(autosaved()) == 3
    assert session._autosave_path(MODEL) in autosaved()


def test_a_refused_change_leaves_the_mask_and_says_why_until_the_next_one(browser: Browser) -> None:
    session.change_mask(MODEL, lambda _: mask(2))

    def refused(_: Mask) -> Mask:
        raise MaskError("L0.Q.H0 and L0.Q overlap.")

    assert not session.change_mask(MODEL, refused)
    assert session.history(MODEL).mask == mask(2)
    assert session.problem() == "L0.Q.H0 and L0.Q overlap. Your mask is as it was."
    session.step(MODEL, History.undo)
    assert session.problem() is None


def test_changes_build_on_the_mask_as_it_is_then(browser: Browser) -> None:
    one, two = mask(2).removed
    session.change_mask(MODEL, lambda now: now.with_removed([one]))
    session.change_mask(MODEL, lambda now: now.with_removed([two]))
    assert session.history(MODEL).mask == mask(2)


def test_another_mode_is_another_mask(browser: Browser) -> None:
    frozen = mask(2)
    assert frozen.digest
    zero = session.in_mode(frozen, "zero")
    assert (zero.mode, zero.removed, zero.provenance) == ("zero", frozen.removed, frozen.provenance)
    assert zero.digest != frozen.digest
    assert session.in_mode(zero, "freeze").digest == frozen.digest


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("bundled", "bundled-2-removed.mask.json"),
        ("HuggingFaceTB/SmolLM2-135M@main", "SmolLM2-135M-main-2-removed.mask.json"),
        ("/home/me/models/my model.gguf", "my-model-2-removed.mask.json"),
        ("C:\\models\\tiny\\", "tiny-2-removed.mask.json"),
        ("..", "model-2-removed.mask.json"),
        ('a"b\r\nSet-Cookie: x', "a-b-Set-Cookie-x-2-removed.mask.json"),
    ],
)
def test_a_downloaded_mask_has_a_sensible_name(model: str, name: str) -> None:
    assert mask_panel.file_name(model, mask(2), ".mask.json") == name


def test_the_name_says_zero_mode() -> None:
    assert mask_panel.file_name("m", session.in_mode(mask(1), "zero"), ".json") == "m-1-removed-zero.json"
    soft = session.in_mode(mask(1).scaled(0.5), "zero")
    assert mask_panel.file_name("m", soft, ".json") == "m-1-scaled-0.5-zero.json"


class Interrupting(dict[str, Any]):
    """Session state that a newer event interrupts at its n-th access, as Streamlit does inside callbacks."""

    class Newer(BaseException):
        pass

    def __init__(self, state: dict[str, Any], at: int) -> None:
        super().__init__(state)
        self.left = at

    def _yield(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Interrupting.Newer

    def __getitem__(self, key: str) -> Any:
        self._yield()
        return super().__getitem__(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self._yield()
        super().__setitem__(key, value)

    def get(self, key: str, default: Any = None) -> Any:
        self._yield()
        return super().get(key, default)

    def pop(self, key: str, default: Any = None) -> Any:
        self._yield()
        return super().pop(key, default)

    def setdefault(self, key: str, default: Any = None) -> Any:
        self._yield()
        return super().setdefault(key, default)


def test_an_interrupted_change_happens_in_full_or_not_at_all(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    session.change_mask(MODEL, lambda _: mask(1))
    interrupted = 0
    for at in range(1, 30):
        before = session.history(MODEL)
        held = Interrupting(browser.state, at)
        monkeypatch.setattr(state, "st", SimpleNamespace(session_state=held))
        count = 2 + at % 2
        try:
            session.change_mask(MODEL, lambda _, count=count: mask(count))
        except Interrupting.Newer:
            interrupted += 1
            held.left = 0  # from here on nothing interrupts
            assert state.of(session.Masks).of[DIGEST].history is before
        else:
            held.left = 0
            assert state.of(session.Masks).of[DIGEST].mask == mask(count)
            assert autosave.load(session._autosave_path(MODEL)).mask == mask(count)
        browser.state = dict(held)
        monkeypatch.setattr(state, "st", SimpleNamespace(session_state=browser.state))
    assert interrupted > 2


def test_picks_of_an_interrupted_callback_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    log = chart.PickLog(shown={"L0.Q.H0": 4})
    pick = {"seq": 1, "kind": "click", "points": [["L0.Q.H0", [2, 3]]]}
    held = {"plot": {"log": {"epoch": log.epoch, "have": [], "picks": [pick]}}}
    monkeypatch.setattr(state, "st", SimpleNamespace(session_state=held))
    state.put(chart.Logs({"plot": log}))
    seen: list[int] = []

    def interrupted(picks: tuple[chart.Pick, ...]) -> None:
        raise Interrupting.Newer

    with pytest.raises(Interrupting.Newer):
        chart._deliver("plot", interrupted)
    for _ in range(2):
        chart._deliver("plot", lambda picks: seen.extend(one.seq for one in picks))
    assert seen == [1]
