"""Masks and models: any type opens a mask, another configuration does not, and files of before are told apart."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from explorer import Model, load, load_task
from explorer.core.errors import ExplorerError, MaskError
from explorer.core.keys import Kind
from explorer.experiments.transfer import transfer
from explorer.masks.apply import apply, check_mask, empty_mask, identity
from explorer.masks.belonging import adopted, belongs, names, tolerance
from explorer.masks.links import inline_mask, link_text
from explorer.masks.mask import Mask, ModelIdentity, Provenance, load_mask
from explorer.masks.sets import overlaps
from explorer.measure.evaluate import evaluate
from explorer.search import prune
from explorer.spectra.cache import SvdCache
from tests import commands, copies

KINDS = (Kind.V, Kind.IN, Kind.OUT)
EARLY = (Kind.Q, Kind.K)
DTYPES = ("float32", "bfloat16")


def made(model: Model, svds: SvdCache, kinds: tuple[Kind, ...] = KINDS, **options: Any) -> Mask:
    """A mask of the bundled model, scored on int-mult."""
    task = load_task("int-mult", 0)
    return prune(model.view(), task, svds, kinds=kinds, count=12, scorer="magnitude", limit=24, **options)


def of_before(model: Model, mask: Mask) -> Mask:
    """The mask as files held it when they identified weights alone, as loaded."""
    given = ModelIdentity(source="bundled", digest=model.weights_now(), basis=model.basis)
    return mask.of_model(given)


@pytest.fixture(scope="module")
def relu(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = copies.bundled(tmp_path_factory.mktemp("relu") / "copy", activation_function="relu")
    return load(str(folder), dtype="float32")


@pytest.mark.slow
@pytest.mark.parametrize("basis", ["raw", "folded"])
@pytest.mark.parametrize(("first", "second"), [DTYPES, DTYPES[::-1]])
def test_a_mask_made_in_one_type_opens_in_another(
    svds: SvdCache, tmp_path: Path, basis: str, first: str, second: str
) -> None:
    mask = made(load("bundled", basis=basis, dtype=first), svds)
    mask.save(tmp_path / "m.json")
    view = load("bundled", basis=basis, dtype=second).view()
    assert (mask.model.dtype, view.model.dtype) == (first, second)
    assert apply(view, load_mask(tmp_path / "m.json"), svds).removed == 12
    assert tolerance(first, second) == tolerance("bfloat16") == 2**-7
    assert tolerance("float32", "float64") == 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("basis", ["raw", "folded"])
def test_files_of_before_open_where_they_are_right_and_are_saved_anew(
    svds: SvdCache, tmp_path: Path, basis: str, dtype: str
) -> None:
    model = load("bundled", basis=basis, dtype=dtype)
    mask = made(model, svds)
    of_before(model, mask).save(tmp_path / "old.json")
    assert '"weights"' not in (tmp_path / "old.json").read_text(encoding="utf-8")
    for loaded in DTYPES:
        view, told = load("bundled", basis=basis, dtype=loaded).view(), list[str]()
        old = load_mask(tmp_path / "old.json")
        own = adopted(view, old, svds, told.append)
        assert (own, told) == (mask.of_model(mask.model), [])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert apply(view, old, svds).removed == 12
        own.save(tmp_path / "new.json")
        assert load_mask(tmp_path / "new.json").model == mask.model


def test_masks_with_an_identity_of_before_open_and_get_that_of_now(
    bundled: Model, svds: SvdCache, tmp_path: Path
) -> None:
    """Before, padding and dropouts were part of identities: such a mask opens there, and where these were set later."""
    mask, bare = made(bundled, svds), copies.bundled(tmp_path / "bare", pad_token_id=None)
    copies.edit(bare / "tokenizer_config.json", pad_token=None)
    first = load(str(bare), dtype="float32")
    assert first.digest == bundled.digest != first.parts.exactly("raw") != bundled.parts.exactly("raw")
    for model in (first, bundled):
        old = mask.of_model(mask.model.model_copy(update={"digest": model.parts.exactly("raw")}))
        view, told = bundled.view(), list[str]()
        assert adopted(view, old, svds, told.append) == mask
        assert belongs(view, old, svds)
        assert apply(view, old, svds).removed == 12
        assert told == []
        assert old.model.digest in names(bundled)
        assert transfer(bundled.view(), old, svds) == mask
        earlier = bundled.parts.earlier("raw")
        assert inline_mask(link_text(old), identity(bundled), earlier).removed == mask.removed
    other = mask.of_model(mask.model.model_copy(update={"digest": "sha256:" + 64 * "0"}))
    assert not belongs(bundled.view(), other, svds)
    with pytest.raises(MaskError, match="not its configuration"):
        apply(bundled.view(), other, svds)


@pytest.mark.parametrize("dtype", DTYPES)
def test_files_of_before_are_refused_by_a_model_with_another_activation(
    bundled: Model, relu: Model, svds: SvdCache, dtype: str
) -> None:
    model = load("bundled", dtype=dtype)
    old = of_before(model, made(model, svds))
    view = relu.view()
    for use in (apply, check_mask):
        with pytest.raises(MaskError, match="another configuration or tokenizer"):
            use(view, old, svds)
    assert view.applied == {}
    assert transfer(view, old, svds).model == identity(relu), "it is a sibling's"
    own = made(bundled, svds)
    with pytest.raises(MaskError, match="not its configuration or its tokenizer"):
        own.check_model(identity(relu))


@pytest.mark.parametrize("case", ["early", "zero", "unknown task", "another task's digest"])
def test_where_nothing_can_be_checked_the_file_opens_with_a_notice(
    bundled: Model, relu: Model, svds: SvdCache, case: str
) -> None:
    mask = made(bundled, svds, mode="zero" if case == "zero" else "freeze")
    removed, said = mask.removed, mask.provenance
    if case == "early":  # no activation function comes before the inputs of these
        many = prune(bundled.view(), load_task("int-mult", 0), svds, kinds=EARLY, count=300, limit=24)
        removed = tuple(one for one in many.removed if one.key.layer == 0)
        assert removed
    if case == "unknown task":
        said = said.model_copy(update={"task": "mine.jsonl"})
    if case == "another task's digest":
        said = said.model_copy(update={"task_digest": "sha256:0"})
    mask = Mask(model=mask.model, mode=mask.mode, removed=removed, provenance=said)
    told: list[str] = []
    for _ in range(2):
        own = adopted(relu.view(), of_before(bundled, mask), svds, told.append)
        assert own.model == identity(relu)
    (notice,) = told
    assert "identifies the weights" in notice


def test_the_notice_is_a_warning_where_nobody_else_takes_it(bundled: Model, svds: SvdCache) -> None:
    mask = made(bundled, svds)
    by_hand = Mask(model=mask.model, removed=mask.removed[:3], provenance=Provenance())
    with pytest.warns(UserWarning, match="identifies the weights"):
        apply(bundled.view(), of_before(bundled, by_hand), svds)


@pytest.mark.filterwarnings("ignore:The mask file identifies")
def test_other_heads_refuse_a_file_of_before(bundled: Model, svds: SvdCache, tmp_path: Path) -> None:
    view = load(str(copies.bundled(tmp_path / "copy", n_head=2)), dtype="float32").view()
    old = of_before(bundled, made(bundled, svds, (Kind.V,)))
    with pytest.raises(ExplorerError, match=r"heads 0 to 1|is [\d.]+, the mask says"):
        apply(view, old, svds)
    assert view.applied == {}


def test_links_and_comparisons_know_files_of_before(bundled: Model, relu: Model, svds: SvdCache) -> None:
    mask = made(bundled, svds)
    old = of_before(bundled, mask)
    back = inline_mask(link_text(old), identity(bundled))
    assert back.removed == mask.removed
    assert back.model.weights is None, "the link names the weights alone"
    with pytest.warns(UserWarning, match="identifies the weights"):
        apply(bundled.view(), back, svds)
    assert inline_mask(link_text(mask), identity(bundled)).model == identity(bundled)
    with pytest.raises(MaskError, match="other weights"):
        inline_mask(link_text(mask), identity(relu))
    assert sum(one.both for one in overlaps(old, mask).values()) == 12
    assert old.model.digest in names(bundled)
    assert mask.model.digest not in names(relu)
    with pytest.raises(MaskError):
        overlaps(mask, mask.of_model(identity(relu)))


def test_another_type_removes_the_same_part(bundled: Model, svds: SvdCache) -> None:
    task, mask = load_task("int-mult", 0), made(bundled, svds)
    short = load("bundled", dtype="bfloat16").view()
    long = bundled.view()
    losses = []
    for view in (long, short):
        before = evaluate(view, task, "test", limit=32).mean_loss.value
        apply(view, mask, svds)
        losses.append((before, evaluate(view, task, "test", limit=32).mean_loss.value))
        apply(view, empty_mask(view.model), svds)
    assert losses[1] == pytest.approx(losses[0], rel=0.03)


@pytest.mark.usefixtures("isolated_folders")
def test_a_file_is_renewed_from_the_command_line(bundled: Model, relu: Model, svds: SvdCache, tmp_path: Path) -> None:
    mask = made(bundled, svds)
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    of_before(bundled, mask).save(old)
    mask.save(tmp_path / "mine.json")
    both = ("mask", "union", old, tmp_path / "mine.json", "--out", tmp_path / "both.json")
    assert "mask renew" in commands.refused(*both)
    folder = relu.source.folder
    assert "another configuration" in commands.refused("mask", "renew", old, "--model", folder, "--out", new)
    report = commands.report("mask", "renew", old, "--model", "bundled", "--dtype", "bfloat16", "--out", new)
    assert (report["dtype"], report["mask"]["dtype"], report["given"]["dtype"]) == ("bfloat16", "float32", None)
    assert report["checked"]
    assert load_mask(new) == mask
    assert commands.report("mask", "union", new, tmp_path / "mine.json", "--out", tmp_path / "both.json")["mask"]
