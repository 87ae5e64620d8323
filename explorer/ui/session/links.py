"""The URL of a view: all of it is read and written here.

A link is taken when the browser opens it, and when the user goes back or forward to it. At all other times the session
is right and the URL follows: the query string that comes with a fast click may be older than the last change. What is
as usual is left out, so that a usual view has a short URL.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast
from urllib.parse import urlencode

import streamlit as st

from explorer.core.errors import MaskError
from explorer.masks.apply import empty_mask, identity
from explorer.masks.library import Library
from explorer.masks.links import check_reference, inline_mask, link_text, reference
from explorer.masks.mask import Mask
from explorer.models import Model
from explorer.ui.session import session, state
from explorer.ui.session.session import Offered, Url
from explorer.ui.streamlit_internals import runs
from explorer.ui.streamlit_internals.markdown import literal

T = TypeVar("T")
MASK, SESSION, HELP = "mask", "session", "help"
NOTHING = "none"  # what a URL says of a widget that is left empty
_FROM_LINK = "from a link"
_SHOWN_LETTERS = 40


@dataclass
class _Asked:
    """What a URL asked for, whether it was gone back to, and which of it the pages have taken."""

    parameters: Mapping[str, str]
    back: bool
    taken: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Link:
    """The mask that a URL names, and whether it was gone back to."""

    mask: str
    back: bool


def arrive(shown_elsewhere: Callable[[], bool]) -> None:
    """Note what the URL asks for if the browser has just opened it or gone back to it; app.py calls it first.

    A session that another tab shows goes on under a name of its own.
    """
    back = runs.went_back()
    opened = state.find(_Asked) is None
    ours = SESSION in st.query_params  # not the bare URL that a page is entered by: it says nothing about the mask
    asked = dict(st.query_params)
    session.token()
    if opened and shown_elsewhere():
        session.part()
    if back:  # what an earlier run, still under way, wrote in the meantime is not of this view
        st.query_params.update({SESSION: session.token()})
    if opened or (back and ours):
        state.put(_Asked(asked, back))
        state.put(_Link(asked.get(MASK, ""), back))


def take(model: Model) -> None:
    """Go to the mask that the URL asks for; a link from elsewhere is checked as an upload is."""
    link = state.take(_Link)
    if link is None:
        return
    text, back = link.mask, link.back
    own = empty_mask(model)
    if not text:
        if back:
            session.go_to(model, own, "back")
        return
    try:
        asked = reference(text)
        if back and not own.model.digest.removeprefix("sha256:").startswith(asked.model):
            return  # the entry of another model: this one keeps its mask
        mask = _found(model, text)
    except MaskError as error:
        session.complain(str(error))
        return
    if back:
        session.go_to(model, mask, _FROM_LINK)
    elif mask.digest != session.history(model).mask.digest:
        state.put(Offered("The mask of the link", mask, _FROM_LINK))


def _found(model: Model, text: str) -> Mask:
    """The mask that a text stands for, among the session's own or in the workspace if it goes by its id."""
    asked = reference(text)
    own, earlier = identity(model), model.earlier
    check_reference(asked, own, earlier)
    if asked.id is None:
        return inline_mask(text, own, earlier)
    for line in session.lines(model).lines:
        if (at := line.history.nearest(f"sha256:{asked.id}")) is not None:
            return line.history.steps[at].mask
    mask = Library.default().find(asked.id)
    if mask is None:
        raise MaskError(f"the link's mask {asked.id} is not in this workspace: ask for its file, and upload that.")
    return mask


def follow(model: Model) -> None:
    """Make the URL say which mask there is."""
    if state.find(Offered) is None:
        _write(MASK, link_text(session.history(model).mask))


def asked(name: str) -> str | None:
    """What the URL asks for under `name`, once after it was opened or gone back to; "" is what is usual."""
    link = state.find(_Asked)
    if link is None or name in link.taken:
        return None
    link.taken.add(name)
    if name not in link.parameters and not link.back:
        return None
    return link.parameters.get(name, "")


@dataclass(frozen=True)
class Linked(Generic[T]):
    """A widget, by its key, whose value the URL says unless it is the usual one."""

    name: str
    usual: T
    key: str
    text: Callable[[T], str]

    def keep(self, value: T) -> None:
        """Make the URL say a value."""
        keep(self.name, value, self.usual, text=self.text)

    def draw(self, widget: Callable[..., object], label: str, *options: object, **further: object) -> T:
        """Draw the widget, which holds its value for the whole session, and make the URL say it.

        Args:
            widget: what draws it, such as `st.selectbox`.
            label: what stands on it.
            *options: what it offers.
            **further: what else it takes.
        """
        value = cast("T", widget(label, *options, key=self.key, persist_state="session", **further))
        self.keep(value)
        return value


def named(name: str) -> bool:
    """Whether the URL that was opened or gone back to says anything under `name`."""
    link = state.find(_Asked)
    return link is not None and name in link.parameters


def restore(
    name: str,
    usual: T,
    read: Callable[[str], T | None],
    *,
    key: str = "",
    start: T | None = None,
    text: Callable[[T], str] = str,
    optional: bool = False,
) -> Linked[T]:
    """Give a widget, before it is drawn, the value that the URL asks for, or the one that it starts with.

    Args:
        name: of the query parameter.
        usual: the value of which the URL says nothing.
        read: from the parameter's text to the value; None for a text that means nothing here, which is then said.
        key: of the widget, where that is not `name`.
        start: its value as long as neither the URL nor the user says otherwise, where that is not the usual one.
        text: from the value to the parameter's text.
        optional: the widget may be empty, which is NOTHING in the URL, and `start` is taken as it is.
    """
    widget, asked_for = state.Widget[T](key or name), asked(name)
    if optional and asked_for == NOTHING:
        widget.put(cast("T", None))
        return Linked(name, usual, widget.key, text=text)
    value = read(asked_for) if asked_for else None
    if asked_for and value is None:
        refuse(name, asked_for)
    if value is not None:
        widget.put(value)
    elif asked_for == "" or not widget.held:
        widget.put(cast("T", start) if optional or start is not None else usual)
    return Linked(name, usual, widget.key, text=text)


def one_of(offered: Iterable[T]) -> Callable[[str], T | None]:
    """Reads one of the values on offer from its text."""
    return {str(one): one for one in offered}.get


def some_of(offered: Iterable[T]) -> Callable[[str], list[T] | None]:
    """Reads some of the values on offer, in their order, from their texts with `_` between; None if one is not."""
    texts = {str(one): one for one in offered}

    def read(text: str) -> list[T] | None:
        wanted = set(text.split("_"))
        return [one for name, one in texts.items() if name in wanted] if wanted <= set(texts) else None

    return read


def text_up_to(most: int) -> Callable[[str], str | None]:
    """Reads a text of so many letters at most."""
    return lambda text: text if len(text) <= most else None


def number_in(low: float, high: float) -> Callable[[str], float | None]:
    """Reads a number of a range from its text."""

    def read(text: str) -> float | None:
        try:
            value = (
                float(text) if text.isascii() and "_" not in text else None
            )  # Python reads 1_0 and other digits, too
        except ValueError:
            return None
        return value if value is not None and low <= value <= high else None

    return read


def whole_in(low: int, high: int) -> Callable[[str], int | None]:
    """Reads a whole number of a range from its text."""

    def read(text: str) -> int | None:
        value = number_in(low, high)(text)
        return int(value) if value is not None and value.is_integer() else None

    return read


def joined_texts(values: Iterable[object]) -> str:
    """What `some_of` reads."""
    return "_".join(map(str, values))


def keep(name: str, value: T, usual: T, *, text: Callable[[T], str] = str) -> None:
    """Make the URL say a value, unless it is the usual one."""
    _write(name, "" if value == usual else text(value))


def refuse(name: str, text: str) -> None:
    """Say that a link asks for something that is not to be had here, and is left as it is."""
    shown = text if len(text) <= _SHOWN_LETTERS else text[:_SHOWN_LETTERS] + "…"
    st.toast(literal(f"The link's {name} {shown!r} means nothing here and is left out."), icon=":material/link_off:")


def asked_matrices(name: str, known: Collection[str]) -> tuple[str, ...] | None:
    """The known matrices that the URL asks for under `name`, once after it was opened or gone back to.

    None where it asks for nothing; an empty tuple asks for the usual ones.
    """
    text = asked(name)
    return None if text is None else tuple(one for one in text.split("_") if one in known)


def follow_matrices(name: str, chosen: Sequence[object], usual: Sequence[object]) -> None:
    """Make the URL say which matrices are looked at, unless they are the usual ones."""
    _write(name, "" if list(map(str, chosen)) == list(map(str, usual)) else joined_texts(chosen))


def address(model: str, task: str, mask: Mask) -> str:
    """The link to this page for somebody else: everything but the session and the reader's own taste."""
    own = (SESSION, MASK, HELP)
    now = {name: value for name, value in st.query_params.to_dict().items() if name not in own}
    wanted = {**now, "model": model, "task": task}
    if text := link_text(mask):
        wanted[MASK] = text
    return joined(str(st.context.url or ""), wanted)


def joined(url: str, wanted: Mapping[str, str]) -> str:
    """`url` with the query parameters `wanted` instead of its own."""
    return f"{url.split('?')[0]}?{urlencode(wanted)}"


def _write(name: str, text: str) -> None:
    url = state.of(Url).parameters
    url.pop(name, None)
    if text:
        url[name] = text
    if st.query_params.get(name, "") == text:
        return
    if text:
        st.query_params[name] = text
    else:
        del st.query_params[name]
