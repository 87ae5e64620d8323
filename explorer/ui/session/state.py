"""What a browser session holds: the one place that touches Streamlit's session state.

1. The app's own values are one object of each class: whoever needs one declares a dataclass, and gets it here by that
   class. There are no names to mistype, and every value has its type.
2. What a widget holds goes by the widget's key (`Widget`). Keys that more than one module uses stand below.

A newer event from the browser interrupts a run or a callback at any of these calls.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

import streamlit as st

T = TypeVar("T")


def find(kind: type[T]) -> T | None:
    """The session's object of a class; None if it holds none."""
    value = st.session_state.get(name_of(kind))
    return value if isinstance(value, kind) else None


def of(kind: type[T]) -> T:
    """The session's object of a class, which is made if there is none yet."""
    value = find(kind)
    if value is None:
        value = kind()
        put(value)
    return value


def put(value: object) -> None:
    """Hold an object in the place of another one of its class."""
    st.session_state[name_of(type(value))] = value


def take(kind: type[T]) -> T | None:
    """The session's object of a class, which it then holds no more; None if it held none."""
    value = st.session_state.pop(name_of(kind), None)
    return value if isinstance(value, kind) else None


def name_of(kind: type[object]) -> str:
    """Under which name the object of a class is held."""
    return f"{kind.__module__}.{kind.__qualname__}"


@dataclass(frozen=True)
class Widget(Generic[T]):
    """What the widget with a key holds, or will hold when it is drawn."""

    key: str

    @property
    def held(self) -> bool:
        """Whether it holds anything."""
        return self.key in st.session_state

    @property
    def value(self) -> T | None:
        """What it holds; None if it holds nothing."""
        return cast("T | None", st.session_state.get(self.key))

    @property
    def text(self) -> str:
        """What was typed into it, without blanks around it; empty if nothing was."""
        return str(self.value or "").strip()

    def put(self, value: T) -> None:
        """Let it hold a value; for callbacks, and before it is drawn."""
        st.session_state[self.key] = value

    def start(self, value: T) -> T:
        """Let it hold a value unless it holds one already; gives what it holds."""
        return cast("T", st.session_state.setdefault(self.key, value))

    def drop(self) -> None:
        """Let it hold nothing, so that it begins anew."""
        st.session_state.pop(self.key, None)


def widgets_named(*beginnings: str) -> list[Widget[Any]]:
    """The widgets that hold something and whose keys begin so."""
    return [Widget(str(key)) for key in st.session_state if str(key).startswith(beginnings)]


COUNT: Widget[int] = Widget("k")  # how many of the lowest-scored values
EXPLANATIONS: Widget[bool] = Widget("help")
TASK: Widget[str] = Widget("task")
SUPERGLUE: Widget[str] = Widget("superglue")  # the folder of its data


@dataclass
class _Turns:
    """How many files the upload places have taken."""

    taken: dict[str, int] = field(default_factory=dict)


class Uploads(Generic[T]):
    """A place for files that is empty again once it has taken some: each turn is a widget of its own."""

    def __init__(self, name: str) -> None:
        self._name, self._turn = name, of(_Turns).taken.get(name, 0)
        self.widget: Widget[T] = Widget(f"{name}-{self._turn}")

    def take(self) -> T | None:
        """What has been given, once: the place is empty then. None if nothing has."""
        value = self.widget.value
        if not value:
            return None
        self.renew()
        return value

    def renew(self) -> None:
        """Go on with an empty place."""
        of(_Turns).taken[self._name] = self._turn + 1
