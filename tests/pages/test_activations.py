"""The Activations page on the bundled model: flipped examples, heads, what a removed value wrote."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from explorer.attribution import Scores
from explorer.masks.activations import Contrast, read_prompt, written
from explorer.masks.apply import apply
from explorer.tasks import load_task
from explorer.ui.bench import inside
from tests.pages.app import Engine, captions, click, go, open_page, prompt_box, sentences, settled

TASK = load_task("int-mult")
COUNT = 4


def pruned() -> AppTest:
    return go(click(open_page("Prune"), "remove-lowest"), "Activations")


def chart(app: AppTest, title: str) -> dict[str, Any]:
    (found,) = (
        one
        for one in (json.loads(chart.proto.spec) for chart in app.get("plotly_chart"))
        if one["layout"]["title"]["text"].startswith(title)
    )
    return dict(found)


def numbers(value: Any) -> np.ndarray[Any, Any]:
    """An array as a figure's JSON holds it."""
    if isinstance(value, dict):
        flat = np.frombuffer(base64.b64decode(value["bdata"]), dtype=value["dtype"])
        return flat.reshape([int(size) for size in str(value["shape"]).split(",")]) if "shape" in value else flat
    return np.array(value, dtype=float)


def contrast(engine: Engine, scores: Scores, prompt: str) -> Contrast:
    found = []
    for count in (0, COUNT):
        apply(engine.view, engine.lowest(scores, count), engine.svds)
        found.append(read_prompt(engine.view, prompt))
    apply(engine.view, engine.lowest(scores, 0), engine.svds)
    return Contrast(*found)


def test_the_first_flipped_example_is_shown_until_another_is_chosen(engine: Engine, scores: Scores) -> None:
    app = pruned()
    compared = engine.compare(engine.lowest(scores, COUNT))
    flipped = [*compared.repaired, *compared.broken]
    box = app.selectbox(key="example")
    examples = TASK.validation
    assert box.value == flipped[0]
    assert len(box.options) == len(examples)
    assert box.options[0].startswith(examples[flipped[0]].prompt + examples[flipped[0]].answer)
    assert sum("→" in option for option in box.options) == len(flipped)
    assert prompt_box(app).value == examples[flipped[0]].prompt
    box.set_value(flipped[1])
    app = settled(app.run())
    assert prompt_box(app).value == examples[flipped[1]].prompt
    assert repr(examples[flipped[1]].answer.strip()) in app.selectbox(key="lens-token").options[0].replace(" ", "")
    prompt_box(app).set_value("3 x 4 =")  # an own prompt stays, also on another page and back
    app = go(go(settled(app.run()), "Overview"), "Activations")
    assert prompt_box(app).value == "3 x 4 ="
    assert "'3' · 'x' · '4' · '='" in captions(app)
    assert not sentences(app)


def test_every_head_of_a_layer_and_how_much_each_moved(
    engine: Engine, scores: Scores, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = pruned()
    prompt = prompt_box(app).value
    found = contrast(engine, scores, prompt)
    most = found.most_changed_head()
    assert most is not None
    (option,) = (text for text in app.selectbox(key="head").options if "most changed" in text)
    assert option.startswith(f"L{most[0]} head {most[1]}")
    app.session_state["heads"] = "Every head"
    app = settled(app.run())
    layer, _ = app.selectbox(key="head").value
    np.testing.assert_allclose(
        numbers(chart(app, "Attention moved")["data"][0]["z"]), found.head_changes().numpy(), atol=1e-6
    )
    panels = chart(app, f"L{layer}, every head: difference")["data"]
    expected = (found.after.attention[layer] - found.before.attention[layer]).numpy()
    for panel, pattern in zip(panels, expected, strict=True):
        np.testing.assert_allclose(numbers(panel["z"]), pattern, atol=1e-6)
    monkeypatch.setattr(inside, "MANY_TOKENS", 4)  # the bundled model reads no long prompts
    app.session_state["heads"] = "Every head"
    assert any("up to 4 tokens" in info.value for info in settled(app.run()).info)


def test_the_first_layer_that_diverges_is_in_the_frame(engine: Engine, scores: Scores) -> None:
    app = pruned()
    first = contrast(engine, scores, prompt_box(app).value).first_changed_layer()
    assert first is not None
    (frame,) = chart(app, "Residual stream")["layout"]["shapes"]
    assert (frame["y0"], frame["y1"]) == (first + 0.5, first + 1.5)
    assert f"The first block whose output differs is layer {first}" in captions(app)


def test_what_a_removed_value_wrote_can_be_chosen(engine: Engine, scores: Scores) -> None:
    app = pruned()
    mask = engine.lowest(scores, COUNT)
    found = written(engine.view, mask, engine.svds, prompt_box(app).value)
    box = app.selectbox(key="wrote")
    order = found.by_change()
    assert len(box.options) == COUNT
    for place in (order[0], order[-1]):
        app.selectbox(key="wrote").set_value(place)
        app = settled(app.run())
        one = found.values[place]
        bars, line = chart(app, f"Written by {one.matrix} value {one.index}")["data"]
        np.testing.assert_allclose(numbers(bars["y"]), found.before[place].numpy(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(numbers(line["y"]), found.after[place].numpy(), rtol=1e-6)
    app = click(go(app, "Prune"), "undo")
    assert any("Nothing is removed." in caption.value for caption in go(app, "Activations").caption)
