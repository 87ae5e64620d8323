"""The registry against the plain checkpoint and against what the hooks record, for every kind of both architectures."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from explorer.core.errors import MatrixError
from explorer.core.keys import ATTENTION, Kind, MatrixKey
from explorer.models import Model, View
from explorer.models.matrices import (
    differentiable,
    heads,
    input_hook,
    kinds,
    matrices,
    output_hook,
    parts_of,
    read,
    read_base,
    read_base_bias,
    read_bias,
    replace,
    restore,
    shape,
)
from tests import plain, tiny

TOKENS = torch.tensor([[0, 5, 9, 3], [0, 7, 7, 20]])


def all_keys(view: View) -> list[MatrixKey]:
    return sorted({*matrices(view), *matrices(view, per_head=False)})


def record(view: View, key: MatrixKey) -> tuple[Tensor, Tensor]:
    """Input and output of the stacked matrix, heads side by side: [batch, position, coordinate]."""
    kept: dict[str, Tensor] = {}

    def keep(value: Tensor, hook: object, name: str) -> None:
        kept[name] = value.flatten(2)

    hooks = [
        (input_hook(key), lambda value, hook: keep(value, hook, "in")),
        (output_hook(key), lambda value, hook: keep(value, hook, "out")),
    ]
    with torch.no_grad(), view.bridge.hooks(fwd_hooks=hooks):
        view.logits(TOKENS)
    return kept["in"], kept["out"]


def test_the_list_holds_every_matrix_once_in_order(arch: str, view: View) -> None:
    per_head = tiny.LAYERS * (2 * tiny.Q_HEADS[arch] + 2 * tiny.KV_HEADS[arch] + len(tiny.KINDS[arch]) - 4)
    assert len(matrices(view)) == per_head
    assert len(matrices(view, per_head=False)) == tiny.LAYERS * len(tiny.KINDS[arch])
    for listed in (matrices(view), matrices(view, per_head=False)):
        assert list(listed) == sorted(set(listed))
    assert kinds(view) == tiny.KINDS[arch]
    counted = {kind: heads(view, kind) for kind in ATTENTION}
    q, kv = tiny.Q_HEADS[arch], tiny.KV_HEADS[arch]
    assert counted == {Kind.Q: q, Kind.K: kv, Kind.V: kv, Kind.O: q}


def test_the_list_can_be_limited(view: View) -> None:
    assert [str(key) for key in matrices(view, [Kind.OUT, Kind.K], per_head=False)] == [
        "L0.K",
        "L0.OUT",
        "L1.K",
        "L1.OUT",
    ]
    assert {key.layer for key in matrices(view, layers=[1])} == {1}
    assert matrices(view, [Kind.Q], [1, 0, 1]) == matrices(view, [Kind.Q])
    assert matrices(view, []) == ()


def test_matrices_have_the_checkpoints_weights_as_d_in_by_d_out(arch: str, view: View, folder: Path) -> None:
    model = plain.load_plain(folder)
    for key in all_keys(view):
        expected = plain.site(model, key).weight()
        assert torch.equal(read(view, key), expected), key
        assert shape(view, key) == tuple(expected.shape)
        if key.head is None:
            assert shape(view, key) == tiny.SHAPES[arch][key.kind]


def test_matrices_times_recorded_inputs_give_recorded_outputs(view64: View) -> None:
    for key in all_keys(view64):
        x, y = record(view64, key)
        bias = read_bias(view64, key)
        rows, columns = parts_of(view64, key)
        if key.kind is Kind.O and key.head is not None:
            continue  # its output appears only in the sum; see the next test
        expected = x[..., rows] @ read(view64, key) + (0.0 if bias is None else bias)
        torch.testing.assert_close(y[..., columns], expected, rtol=1e-12, atol=1e-12)


def test_o_heads_sum_to_the_recorded_output(view64: View) -> None:
    for layer in range(tiny.LAYERS):
        stacked = MatrixKey(layer, Kind.O)
        x, y = record(view64, stacked)
        parts = [x[..., parts_of(view64, key)[0]] @ read(view64, key) for key in matrices(view64, [Kind.O], [layer])]
        bias = read_bias(view64, stacked)
        torch.testing.assert_close(sum(parts) + (0.0 if bias is None else bias), y, rtol=1e-12, atol=1e-12)


def test_biases_are_the_checkpoints(arch: str, view: View, folder: Path) -> None:
    model = plain.load_plain(folder)
    for key in all_keys(view):
        bias = read_base_bias(view, key)
        where = plain.site(model, key)
        if arch == "llama":
            assert bias is None
        else:
            assert bias is not None
            assert torch.equal(bias, where.module.bias[where.columns])


def test_replacing_changes_that_matrix_on_that_view_only(model: Model) -> None:
    view, other = model.view(), model.view()
    original = other.logits(TOKENS)
    for key in all_keys(view):
        before = {one: read(view, one).clone() for one in matrices(view)}
        W = torch.full_like(read(view, key), 0.25)
        replace(view, key, W)
        assert torch.equal(read(view, key), W)
        for one, weight in before.items():
            if one != key and not (one.stacked == key and key.head is None):
                assert torch.equal(read(view, one), weight), f"replacing {key} changed {one}"
        assert not torch.equal(view.logits(TOKENS), original)
        assert not torch.equal(read_base(view, key), W)
        restore(view, key)
        assert torch.equal(view.logits(TOKENS), original)
    assert torch.equal(other.logits(TOKENS), original)
    assert model.current_digest() == model.digest


def test_a_replaced_bias_acts_on_the_output(view: View) -> None:
    for key in matrices(view, per_head=False):
        before = record(view, key)[1]
        own = read_bias(view, key)
        b = torch.linspace(-1, 1, shape(view, key)[1])
        replace(view, key, read(view, key), b if own is None else own + b)
        torch.testing.assert_close(record(view, key)[1], before + b, rtol=1e-5, atol=1e-5)
        restore(view, key)
        assert torch.equal(record(view, key)[1], before)


def test_a_heads_bias_leaves_the_other_heads_alone(view: View) -> None:
    key = MatrixKey(1, Kind.K, 1)
    before = record(view, key)[1]
    columns = parts_of(view, key)[1]
    own = read_bias(view, key)
    b = torch.ones(columns.stop - columns.start)
    replace(view, key, read(view, key), b if own is None else own + b)
    change = record(view, key)[1] - before
    torch.testing.assert_close(change[..., columns], torch.ones_like(change[..., columns]), rtol=1e-5, atol=1e-5)
    assert torch.equal(change[..., : columns.start], torch.zeros_like(change[..., : columns.start]))


def test_leaves_give_the_ordinary_gradients_and_leave_nothing_behind(view64: View, folder: Path) -> None:
    model = plain.load_plain(folder, torch.float64)
    close = {"rtol": 1e-6, "atol": 1e-4}  # transformers' Llama takes norms and softmax in float32; values reach 1e3
    model(TOKENS).logits.square().sum().backward()
    keys = matrices(view64, per_head=False)
    before = {key: (read(view64, key), read_bias(view64, key)) for key in keys}
    with differentiable(view64, keys) as leaves:
        for _ in range(2):
            view64.logits(TOKENS).square().sum().backward()
        for key, leaf in leaves.items():
            where = plain.site(model, key)
            gradient = where.module.weight.grad
            expected = (gradient if where.conv1d else gradient.T)[where.rows, where.columns]
            torch.testing.assert_close(leaf.weight_gradient, 2 * expected, **close)
            if where.module.bias is not None:
                expected = where.module.bias.grad[where.columns]
                torch.testing.assert_close(leaf.bias_gradient, 2 * expected, **close)
    for key, (weight, bias) in before.items():
        assert read(view64, key).data_ptr() == weight.data_ptr()
        after = read_bias(view64, key)
        assert (after is None) == (bias is None)
        assert bias is None or torch.equal(after, bias)
    assert not view64.logits(TOKENS).requires_grad


def test_leaves_are_taken_back_when_the_work_fails(view: View) -> None:
    with pytest.raises(RuntimeError, match="stop"), differentiable(view, matrices(view, per_head=False)):
        raise RuntimeError("stop")
    assert not view.logits(TOKENS).requires_grad


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (MatrixKey(2, Kind.Q), "layer 2 is out of range: the model has layers 0 to 1"),
        (MatrixKey(-1, Kind.Q), "layer -1 is out of range"),
        (MatrixKey(0, Kind.Q, 4), r"L0\.Q\.H4: the model has Q heads 0 to"),
        (MatrixKey(0, Kind.K, 3), r"L0\.K\.H3: the model has K heads 0 to"),
        (MatrixKey(0, Kind.O, -1), "the model has O heads 0 to"),
    ],
)
def test_matrices_that_are_not_there_are_refused(view: View, key: MatrixKey, words: str) -> None:
    for use in (read, read_base, read_bias, shape):
        with pytest.raises(MatrixError, match=words):
            use(view, key)
    with pytest.raises(MatrixError, match=words):
        replace(view, key, torch.zeros(1, 1))


def test_kinds_and_layers_that_are_not_there_are_refused(view: View) -> None:
    with pytest.raises(MatrixError, match="layer 7 is out of range"):
        matrices(view, layers=[0, 7])
    if Kind.GATE not in kinds(view):
        for call in (lambda: matrices(view, [Kind.GATE]), lambda: read(view, MatrixKey(0, Kind.GATE))):
            with pytest.raises(MatrixError, match="has no GATE matrices: choose from Q, K, V, O, IN, OUT"):
                call()


def test_a_replacement_of_another_shape_is_refused_and_changes_nothing(view: View) -> None:
    before = view.logits(TOKENS)
    for key, wrong in itertools.product(matrices(view, layers=[0]), [(1, 1), (3, 12)]):
        with pytest.raises(
            MatrixError, match=rf"{key} is \(\d+, \d+\), but the replacement is \({wrong[0]}, {wrong[1]}\)"
        ):
            replace(view, key, torch.zeros(wrong))
    assert torch.equal(view.logits(TOKENS), before)
