"""Similar directions: the stream's side of a direction by finite differences, cosines by numpy, chance by drawing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from explorer.core.keys import Kind, MatrixKey
from explorer.models import Model, load
from explorer.models.matrices import kinds, matrices, norm_of
from explorer.models.norms import READERS, norms
from explorer.spectra.cache import SvdCache
from explorer.spectra.similar import chance_cosine, similar_directions, stream_directions
from tests.families import FAMILIES

# LayerNorms, RMSNorms, norms on both sides, none in front, side by side, a stream that passes through norms itself.
CHOSEN = ("gpt2", "llama", "gemma2", "olmo2", "gpt-j", "opt-post-norm")


@pytest.fixture(scope="module", params=CHOSEN)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Model]:
    path = FAMILIES[request.param].save(tmp_path_factory.mktemp(request.param))
    return request.param, load(str(path), dtype="float64")


def slopes(norm: Any, ways: torch.Tensor) -> torch.Tensor:
    """How a norm's output changes along each way, where its size is at its least in all of them; up to a factor."""
    d = ways.shape[1]
    fixed = torch.linalg.qr(torch.cat([ways, torch.ones(1, d)]).double().T)[0]
    x = torch.randn(d, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    x -= fixed @ (fixed.T @ x)
    step = 3e-3  # some norms compute in float32
    moved: torch.Tensor = norm((x + step * ways)[None])[0] - norm((x - step * ways)[None])[0]
    return moved / (2 * step)


def test_the_streams_side_of_a_direction(family: tuple[str, Model], svds: SvdCache) -> None:
    model = family[1]
    view = model.view()
    placed = norms(model.architecture, view.bridge.original_model.config)
    generator = torch.Generator().manual_seed(1)
    for kind in kinds(view):
        key, reads = MatrixKey(1, kind), kind in READERS
        svd = svds.get(view, key)
        found, vectors = stream_directions(view, key, svd), (svd.u if reads else svd.vh.T).double()
        norm = norm_of(view, 1, None if placed.post else placed.before(kind) if reads else placed.after(kind))
        if norm is None:
            torch.testing.assert_close(found, vectors)
            continue
        drawn = torch.randn(6, vectors.shape[0 if reads else 1], generator=generator, dtype=torch.float64)
        if reads:  # what x . u becomes when the stream moves along a way
            measured, predicted = slopes(norm, drawn).double() @ vectors, drawn @ found
        else:  # what the stream becomes when the matrix writes more along some v
            measured, predicted = slopes(norm, drawn @ vectors.T).double(), drawn @ found.T
        factor = (measured * predicted).sum() / predicted.square().sum()
        assert float(factor) > 0
        torch.testing.assert_close(measured, factor * predicted, rtol=0.0, atol=2e-3 * float(measured.abs().max()))


def test_cosines_and_their_order(view: Any, svds: SvdCache, arch: str) -> None:
    among = matrices(view)
    key, index = MatrixKey(1, Kind.K, 1), 2
    own = stream_directions(view, key, svds.get(view, key))[:, index].numpy()
    inner = svds.get(view, key).vh[index].double().numpy()
    found = {one.relation: one for one in similar_directions(view, svds, key, index=index, among=among, count=7)}
    assert set(found) == {"reads alike", "written before", "meets in the head"}
    queries = [0, 1, 2, 3] if arch == "llama" else [0, 1, 2]
    per = len(queries) // (2 if arch == "llama" else 3)
    expected = {
        "reads alike": [one for one in among if one.kind in READERS and one != key],
        "written before": [one for one in among if one.kind not in READERS and one.layer == 0],
        "meets in the head": [MatrixKey(1, Kind.Q, head) for head in queries if head // per == 1],
    }
    for relation, keys in expected.items():
        cosines = []
        for one in keys:
            svd = svds.get(view, one)
            theirs = svd.vh.T.double() if relation.startswith("meets") else stream_directions(view, one, svd)
            mine = inner if relation.startswith("meets") else own
            for i, vector in enumerate(theirs.T.numpy()):
                cosine = vector @ mine / np.linalg.norm(vector) / np.linalg.norm(mine)
                cosines.append((abs(cosine), cosine, str(one), i))
        told = found[relation]
        assert told.compared == len(cosines)
        best = sorted(cosines, reverse=True)[:7]
        np.testing.assert_allclose([one.cosine for one in told.nearest], [one[1] for one in best], atol=1e-5)
        assert (told.nearest[0].matrix, told.nearest[0].index) == best[0][2:]


def test_what_is_written_is_read_later_only(svds: SvdCache, tmp_path: Path) -> None:
    for name, same_block in (("llama", True), ("gpt-j", False)):
        view = load(str(FAMILIES[name].save(tmp_path / name))).view()
        among = matrices(view)
        for key, later in ((MatrixKey(0, Kind.O, 0), (0, 1)), (MatrixKey(1, Kind.O, 0), (1,))):
            found = {one.relation: one for one in similar_directions(view, svds, key, index=0, among=among, count=400)}
            after = found["read after"].nearest if "read after" in found else ()
            read = {tuple(one.matrix.split(".")[:2]) for one in after}
            own = {(f"L{key.layer}", "IN")} if same_block else set()
            wanted = {(f"L{layer}", "IN") for layer in later if layer > key.layer} | own
            assert {one for one in read if one[1] == "IN"} == wanted
            assert {one for one in read if one[1] == "Q"} == {
                (f"L{layer}", "Q") for layer in later if layer > key.layer
            }


def test_a_stacked_matrix_is_not_compared_with_its_own_heads(view: Any, svds: SvdCache) -> None:
    key = MatrixKey(1, Kind.K)
    found = similar_directions(
        view, svds, key, index=0, among=[*matrices(view), *matrices(view, per_head=False)], count=500
    )
    assert not [one for each in found for one in each.nearest if one.matrix.startswith("L1.K")]
    assert "meets in the head" not in {one.relation for one in found}


@pytest.mark.parametrize(("d", "count"), [(12, 1), (12, 40), (64, 500)])
def test_chance_is_what_random_directions_give(d: int, count: int) -> None:
    generator = np.random.default_rng(0)
    drawn = generator.standard_normal((400, count, d))
    largest = (np.abs(drawn[:, :, 0]) / np.linalg.norm(drawn, axis=2)).max(axis=1)
    assert chance_cosine(d, count) == pytest.approx(np.median(largest), rel=0.08)
    assert chance_cosine(1, count) == 1.0
