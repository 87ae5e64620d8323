"""What the app assumes about Streamlit beyond its documentation; a version that does otherwise fails here."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import streamlit
from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).resolve().parents[2]
APP = sorted((ROOT / "explorer").rglob("*.py")) + sorted((ROOT / "pages").glob("*.py")) + [ROOT / "app.py"]
INTERNALS = ROOT / "explorer" / "ui" / "streamlit_internals"


@contextmanager
def assumption(sentence: str) -> Iterator[None]:
    """Fail with the sentence, whatever goes wrong inside."""
    try:
        yield
    except Exception as error:
        pytest.fail(f"Streamlit {streamlit.__version__}: {sentence} ({type(error).__name__}: {error})", pytrace=False)


def played(script: Callable[[], None]) -> AppTest:
    """An app of one script, after its first run."""
    app = AppTest.from_function(script, default_timeout=30).run()
    assert not app.exception, app.exception[0].message
    return app


def frontend() -> Iterator[str]:
    """The files of Streamlit's browser side."""
    for path in (Path(streamlit.__file__).parent / "static").rglob("*.js"):
        yield path.read_text(encoding="utf-8", errors="replace")


def test_a_run_knows_that_it_is_one_and_whose() -> None:
    def script() -> None:
        import streamlit as st

        from explorer.ui.streamlit_internals import runs

        st.text(f"{runs.inside()} {runs.went_back()} {runs.connection() != ''}")

    with assumption("a script run no longer says through its context whose it is, or whether Back caused it."):
        from explorer.ui.streamlit_internals import runs

        assert not runs.inside()
        assert not runs.went_back()
        assert played(script).text[0].value == "True False True"


def test_back_reaches_the_run_context() -> None:
    with assumption("Back and Forward are no longer told to a run as `is_history_navigation`."):
        from streamlit.proto.ClientState_pb2 import ClientState
        from streamlit.runtime.scriptrunner_utils.script_requests import RerunData
        from streamlit.runtime.scriptrunner_utils.script_run_context import ScriptRunContext

        assert "is_history_navigation" in ClientState.DESCRIPTOR.fields_by_name
        assert RerunData(is_history_navigation=True).is_history_navigation
        assert "is_history_navigation" in inspect.signature(ScriptRunContext.reset).parameters


def test_a_session_can_be_emptied_with_the_callbacks_of_its_widgets() -> None:
    def script() -> None:
        import gc
        import weakref

        import streamlit as st

        from explorer.ui.streamlit_internals import runs

        class Work:
            def act(self) -> None: ...

        def draw() -> weakref.ref[Work]:
            work = Work()
            st.session_state["plain"] = 1
            st.button("Act", key="act", on_click=lambda: work.act())
            return weakref.ref(work)

        held = draw()
        gc.collect()
        before = held() is not None
        runs.forgetting()()
        gc.collect()
        st.text(f"{before} {held() is None} {'plain' in st.session_state}")

    with assumption("emptying a session's state leaves values or callbacks behind, which hold models in memory."):
        assert played(script).text[0].value == "True True False"


def test_the_fragments_of_a_session_can_be_forgotten() -> None:
    def script() -> None:
        import gc
        import weakref

        import streamlit as st

        from explorer.ui.streamlit_internals import runs

        class Work: ...

        def draw() -> weakref.ref[Work]:
            work = Work()

            @st.fragment
            def part(work: Work) -> None: ...

            part(work)
            return weakref.ref(work)

        held = draw()
        gc.collect()
        before = held() is not None
        runs.forgetting()()
        gc.collect()
        st.text(f"{before} {held() is None}")

    with assumption("a session's fragments can no longer be forgotten; they hold what their page worked with."):
        assert played(script).text[0].value == "True True"


def test_the_runtime_tells_which_connections_are_open_and_closes_them() -> None:
    with assumption("the runtime no longer says whether a connection is open, or no longer closes it by its id."):
        from streamlit.runtime import Runtime

        from explorer.ui.streamlit_internals import connections

        assert not connections.watched()  # nothing serves these tests
        for method in (Runtime.is_active_session, Runtime.close_session):
            assert list(inspect.signature(method).parameters) == ["self", "session_id"]


def test_what_is_cached_for_a_session_is_released_when_its_connection_ends() -> None:
    with assumption("`st.cache_resource` no longer releases what it holds for one session."):
        assert {"scope", "on_release"} <= set(inspect.signature(streamlit.cache_resource).parameters)
        from streamlit.runtime.websocket_session_manager import WebsocketSessionManager

        assert "clear_session_caches()" in inspect.getsource(WebsocketSessionManager.disconnect_session)


def test_what_an_element_returns_draws_in_its_place() -> None:
    def script() -> None:
        import streamlit as st

        from explorer.ui.streamlit_internals.elements import DeltaGenerator

        place = st.container()
        first = place.metric("a", 1)
        assert isinstance(first, DeltaGenerator)
        second = first.metric("b", 2)
        second.metric("c", 3)

    with assumption("drawing through what an element has returned no longer takes the element's place."):
        assert [one.label for one in played(script).metric] == ["c"]


def test_a_tab_says_whether_it_is_open() -> None:
    def script() -> None:
        import streamlit as st

        from explorer.ui.streamlit_internals.elements import TabContainer

        first, second = st.tabs(["one", "two"], key="tabs", on_change="rerun")
        assert isinstance(first, TabContainer)
        st.text(f"{first.open} {second.open}")

    with assumption("`st.tabs` no longer says which tab is open."):
        assert played(script).text[0].value == "True False"


def test_a_key_drawn_twice_and_a_fragment_that_is_gone_raise_what_they_did() -> None:
    def script() -> None:
        import streamlit as st

        from explorer.ui.streamlit_internals.elements import DrawnTwice, NoSuchFragment

        st.button("a", key="twice")
        try:
            st.button("b", key="twice")
        except DrawnTwice:
            st.text("drawn twice")
        try:
            st.rerun(["nowhere"])
        except NoSuchFragment:
            st.text("no such fragment")

    with assumption("a key that is drawn twice, or the key of a fragment that is not there, raises something else."):
        assert [one.value for one in played(script).text] == ["drawn twice", "no such fragment"]


def test_what_interrupts_a_run_is_no_exception() -> None:
    with assumption("a newer event interrupts a run with an `Exception`, which the app would take for an error."):
        from streamlit.runtime.scriptrunner import RerunException, StopException

        for kind in (RerunException, StopException):
            assert issubclass(kind, BaseException)
            assert not issubclass(kind, Exception)


def test_an_element_has_a_class_named_after_its_key() -> None:
    with assumption("the browser side no longer gives elements a class `st-key-...`, or spells keys in it otherwise."):
        assert any("st-key-" in text and "[^a-zA-Z0-9_-]" in text for text in frontend())


def test_the_page_says_in_its_html_whether_it_is_connected() -> None:
    with assumption("the browser side no longer says on `stApp` how its connection is."):
        scripts = [(INTERNALS / "reconnect.js").read_text(encoding="utf-8"), *frontend()]
        for name in ("stApp", "data-test-connection-state", "CONNECTED"):
            assert name in scripts[0]
            assert any(name in text for text in scripts[1:]), name


def test_the_browser_side_writes_the_query_string_through_the_history() -> None:
    with assumption("the browser side no longer writes the URL with `history.pushState`: see browser_history.js."):
        assert any("history.pushState" in text for text in frontend())


def test_a_folder_of_another_package_can_be_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "package" / "files"
    folder.mkdir(parents=True)
    (folder / "a.js").write_text("1", encoding="utf-8")
    with assumption("a component can no longer be registered by calls, or is served under another address."):
        from streamlit.components.v2.component_manager import BidiComponentManager

        from explorer.ui.streamlit_internals import served_files

        manager = BidiComponentManager()  # the runtime's, if there is one; here every call would get another
        monkeypatch.setattr(served_files, "get_bidi_component_manager", lambda: manager)
        assert not served_files.is_served("a_test")
        served_files.serve("a_test", "1", folder)
        assert served_files.is_served("a_test")
        assert manager.get_component_path("eigenprune.a_test") == str(folder)
        assert served_files.address("a_test", "a.js") == "/_stcore/bidi-components/eigenprune.a_test/a.js"
        server = Path(streamlit.__file__).parent / "web" / "server"
        assert any("bidi-components" in path.read_text(encoding="utf-8") for path in server.rglob("*.py"))


def test_a_folder_of_pages_stands_for_the_app_until_it_has_named_them(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "one.py").write_text("", encoding="utf-8")
    app = tmp_path / "app.py"
    app.write_text('import streamlit as st\nst.navigation([st.Page("pages/one.py")])\n', encoding="utf-8")
    with assumption("a folder pages/ stands for the app's pages otherwise than until `st.navigation` is called."):
        from streamlit.runtime.pages_manager import PagesManager

        test = AppTest.from_file(str(app))
        assert PagesManager.uses_pages_directory is None or PagesManager.uses_pages_directory is False
        PagesManager.uses_pages_directory = None
        assert PagesManager(str(app)).uses_pages_directory
        assert not test.run().exception
        assert not PagesManager.uses_pages_directory


def _names(path: Path) -> Iterator[tuple[int, str]]:
    """(line, what is imported or reached for) of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Attribute):
            yield node.lineno, ast.unparse(node)


def test_nothing_else_reaches_into_streamlit() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in APP
        if INTERNALS not in path.parents
        for line, name in _names(path)
        if name.startswith("streamlit.")
        or re.match(r"st\.(\w+\.)*_|st\.(runtime|elements|proto|delta_generator|errors)\b", name)
    ]
    assert not found, f"only explorer/ui/streamlit_internals/ may use these: {found}"
