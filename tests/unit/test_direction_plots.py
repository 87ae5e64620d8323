"""What the card of a direction draws: a histogram from quantiles, figures as tables, tokens as escaped HTML."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest

from explorer.measure.contexts import QUANTILES
from explorer.plots import direction as plots
from explorer.plots.data import table
from explorer.ui.components import coloured


@pytest.mark.parametrize("seed", range(3))
def test_a_histogram_from_quantiles_is_near_that_of_all_values(seed: int) -> None:
    generator = np.random.default_rng(seed)
    values = generator.standard_normal(20_000) * generator.uniform(0.1, 9.0) + generator.uniform(-5, 5)
    edges, shares = plots.histogram(np.quantile(values, np.linspace(0, 1, QUANTILES)), bins=12)
    counts, _ = np.histogram(values, edges)
    assert shares.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(shares, counts / len(values), atol=0.035)


def test_equal_values_lie_at_one_point() -> None:
    values = np.array([0.0] * 50 + [1.0] * 25 + [4.0] * 25)
    edges, shares = plots.histogram(np.quantile(values, np.linspace(0, 1, QUANTILES)), bins=8)
    heights = {round(float(edges[i]), 3): float(share) for i, share in enumerate(shares) if share > 0.05}
    assert sum(shares) == pytest.approx(1.0)
    assert list(heights) == [0.0, 1.0, 3.5]
    np.testing.assert_allclose(list(heights.values()), [0.5, 0.25, 0.25], atol=2 / QUANTILES)
    _, alone = plots.histogram(np.zeros(QUANTILES))
    assert alone.sum() == pytest.approx(1.0)


def test_figures_hold_what_they_show() -> None:
    s = np.array([2.0, 1.0, 0.5, 0.0])
    found = table(plots.spectrum(s, "L0.K.H<b>", 1, edge=0.7))
    assert found[found["series"] == "singular values"]["singular value"].tolist() == [2.0, 1.0, 0.5]
    assert found[found["series"] == "this one"][["index", "singular value"]].to_numpy().tolist() == [[1, 1.0]]
    curve = table(plots.gain_curve([-1.0, 0.0, 1.0], [0.5, -0.2, 0.0], [0.1, 0.2, 0.0]))
    assert curve["change of the loss, nats"].tolist() == [0.5, -0.2, 0.0]
    assert curve["change of the loss, nats ±"].tolist() == [0.2, 0.4, 0.0]
    shares = table(plots.activity([-1.0, 0.0, 1.0], 0.1, "a <b> & c"))
    assert shares["share of tokens"].sum() == pytest.approx(1.0)


class Reader(HTMLParser):
    """The tags of a text, its titles, and its letters."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.styles: list[str] = []
        self.titles: list[str] = []
        self.letters = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.titles += [str(value) for name, value in attrs if name == "title"]
        self.styles += [str(value) for name, value in attrs if name == "style"]

    def handle_data(self, data: str) -> None:
        self.letters += data


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    return reader


def test_tokens_are_text_whatever_they_hold() -> None:
    tokens = ["<script>alert(1)</script>", ' "x"', "&amp;", "\n", "", "ok"]
    values = [4.0, -4.0, 0.0, 1.0, float(2), -8.0]
    found = read(coloured.line(tokens, values, at=1, scale=4.0, cut=True))
    assert set(found.tags) == {"span", "wbr"}
    assert found.letters == '… <script>alert(1)</script>\xa0"x"&amp;⏎∅ok'
    assert found.titles == ["+4", "-4", "+0", "+1", "+2", "-8"]
    assert [one for one in found.styles if "outline" in one] == [found.styles[1]]
    strengths = [int(style.partition(";")[0][-2:], 16) for style in found.styles]
    assert strengths == [128, 128, 0, 32, 64, 128]
    assert {style[len("background:") :][:7] for style in found.styles} == {coloured.ORANGE, coloured.SKY}
    whole = read(coloured.table(["a", "<b>"], [(["<i>1</i>"], coloured.line(["w"], [0.0], at=0, scale=0.0))], '">x'))
    assert set(whole.tags) == {"table", "thead", "tbody", "tr", "th", "td", "span", "wbr"}
    assert whole.letters == "a<b><i>1</i>w"


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """The contrast ratio of WCAG 2 between two colours of sRGB."""

    def luminance(colour: tuple[float, ...]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def rgb(text: str) -> tuple[float, ...]:
    return tuple(int(text[i : i + 2], 16) / 255 for i in (1, 3, 5))


@pytest.mark.parametrize(("page", "text"), [("#ffffff", "#1f2933"), ("#14181d", "#dfe4ea")])
def test_the_strongest_background_leaves_text_readable(page: str, text: str) -> None:
    for colour in (coloured.ORANGE, coloured.SKY):
        mixed = tuple(
            coloured.STRONGEST * c + (1 - coloured.STRONGEST) * p for c, p in zip(rgb(colour), rgb(page), strict=True)
        )
        assert contrast(mixed, rgb(text)) >= 4.5
