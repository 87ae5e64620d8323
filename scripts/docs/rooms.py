"""The house: what each room holds and which rooms it imports, from docstrings, imports and import-linter's layers."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Mapping
from functools import cache
from html import escape
from importlib import import_module
from pathlib import Path

import grimp

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
ROW, LEFT, BOX, STEP = 34, 12, 128, 13  # pixels: height of a room, margin, width of a room, between two arcs


def floors(house: str) -> list[list[str]]:
    """The rooms of a package by floor, from the top, as import-linter's contract has them."""
    contracts = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    (layers,) = [one["layers"] for one in contracts if one["type"] == "layers" and one["containers"] == [house]]
    return [[room.strip() for room in floor.split("|")] for floor in layers]


@cache
def imports(house: str) -> dict[str, tuple[str, ...]]:
    """The rooms that each room imports, types included, from the top; `__main__` is left out."""
    graph = grimp.build_graph("explorer", exclude_type_checking_imports=False, cache_dir=None)
    rooms = [room for floor in floors(house) for room in floor if room != "__main__"]
    inside = {room: _modules(graph, f"{house}.{room}") for room in rooms}
    return {
        room: tuple(
            other
            for other in rooms
            if other != room
            and any(inside[other] & graph.find_modules_directly_imported_by(name) for name in inside[room])
        )
        for room in rooms
    }


def _modules(graph: grimp.ImportGraph, name: str) -> set[str]:
    return {name, *graph.find_descendants(name)}


def purpose(house: str, room: str) -> str:
    """What a room holds: the first sentence of its docstring."""
    text = inspect.getdoc(import_module(f"{house}.{room}")) or ""
    return text.split("\n\n")[0].replace("\n", " ").rstrip(".")


def table(house: str) -> str:
    """A line per room: what it holds and what it imports."""
    lines = [
        f"| `{room}/` | {purpose(house, room)} | {', '.join(others) or 'no other room'} |"
        for room, others in imports(house).items()
    ]
    return "\n".join(["| room | what it holds | imports |", "|---|---|---|", *lines])


def picture(house: str) -> str:
    """An SVG: the rooms from the top, and an arc for every import between two of them, always downwards.

    Arcs that a way over other rooms implies are pale.
    """
    found = imports(house)
    places = {room: number for number, room in enumerate(found)}
    arcs = [(room, other) for room, others in found.items() for other in others]
    pale = [arc for arc in arcs if _implied(found, *arc)]
    drawn = [(arc, "#d3d8de") for arc in pale] + [(arc, "#5b6470") for arc in arcs if arc not in pale]
    widest = max(places[other] - places[room] for room, other in arcs)
    width, height = LEFT + BOX + 24 + widest * STEP * 2, ROW * len(places) + 8
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' font-family="system-ui, sans-serif" font-size="13">',
        f"<title>Rooms of {escape(house)}: each imports rooms below it only</title>",
        f'<rect width="{width}" height="{height}" rx="6" fill="#ffffff"/>',
        *(_arc(places[room], places[other], f"{room} imports {other}", colour) for (room, other), colour in drawn),
        *(_box(room, number) for room, number in places.items()),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _implied(found: Mapping[str, tuple[str, ...]], room: str, other: str) -> bool:
    """Whether a room that the first one imports leads to the other, too."""
    return any(
        other in found[between] or _implied(found, between, other) for between in found[room] if between != other
    )


def _box(room: str, number: int) -> str:
    top = ROW * number + 8
    return (
        f'<rect x="{LEFT}" y="{top}" width="{BOX}" height="{ROW - 8}" rx="4" fill="#eef2f7" stroke="#4a78b5"/>'
        f'<text x="{LEFT + 10}" y="{top + 17}" fill="#1f2937">{escape(room)}</text>'
    )


def _arc(start: int, end: int, title: str, colour: str) -> str:
    """From the lower half of one room's right edge round to the upper half of another's, with a tip at its end."""
    right = LEFT + BOX
    first, last = ROW * start + 8 + (ROW - 8) * 0.7, ROW * end + 8 + (ROW - 8) * 0.3
    reach = right + 14 + (end - start) * STEP * 2
    return (
        f'<g fill="none" stroke="{colour}"><title>{escape(title)}</title>'
        f'<path d="M{right} {first:.1f} C{reach} {first:.1f} {reach} {last:.1f} {right + 5} {last:.1f}"/>'
        f'<path d="M{right + 7} {last - 3:.1f} L{right + 1} {last:.1f} L{right + 7} {last + 3:.1f}"/></g>'
    )
