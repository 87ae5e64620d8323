"""Whether a mask belongs to a model, and how that is told of files that identify the weights alone.

Masks hold the model's identity (`explorer.models.identity`). Files of before held a digest of the weights as they were
loaded (`weights_digest`), which models share that differ in configuration or tokenizer. Such a mask is adopted:

1. The weights must be the model's, in one of the types that they can be loaded in.
2. Where the mask names a built-in task, its frozen means are computed again from that task's train examples, in the
   type in which the mask was made. If they agree, the mask was made with this model; if they do not, and nothing else
   can explain it, it was not, and is refused.
3. Where this says nothing, the mask is taken with a notice.

What is adopted holds the model's identity from then on.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from threading import RLock
from weakref import WeakKeyDictionary

import torch

from explorer.core.config import DTYPES
from explorer.core.errors import ExplorerError, MaskError
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.fitting import fitting
from explorer.masks.mask import BaseIdentity, Mask, ModelIdentity, Provenance
from explorer.measure.batches import batches
from explorer.measure.residuals import keep
from explorer.models import Model, View, load
from explorer.models.matrices import check, parts_of
from explorer.spectra.cache import SvdCache
from explorer.tasks import (
    TASKS,
    USUAL_CASES,
    Cases,
    Example,
    Task,
    as_cases,
    as_framing,
    load_task,
    read_in_search,
)

Notify = Callable[[str], None]

SIGMA_TOLERANCE = 1e-4  # relative to s_0: what recomputing an SVD on another machine may change
# How far frozen means are from those of the model, relative to the length of the mean input: up to the first they
# agree, beyond the second they are another model's. In shorter types these are at least two and four roundings.
MEANS_AGREE, MEANS_DIFFER = 2e-5, 1e-2
# What a block reads in turn: a removed value changes the means of what comes behind it, and of nothing else.
_PLACES = {Kind.Q: 0, Kind.K: 0, Kind.V: 0, Kind.O: 1, Kind.IN: 2, Kind.GATE: 2, Kind.OUT: 3}
_WHOLE_BLOCK = (0, 3)  # from here on, what is read has gone through all sorts of layers that there are
_AT_MASKS = (
    "verified",
    "stepwise",
    "learned",
    "thorough",
)  # their means are of a model pruned in part
Judgement = tuple[Mask | MaskError, str | None]  # the adopted mask or why there is none, and what is still to be said
_ADOPTED: WeakKeyDictionary[Model, dict[str, Judgement]] = WeakKeyDictionary()
_WEIGHTS: WeakKeyDictionary[Model, dict[str, str]] = WeakKeyDictionary()
_LOCK = RLock()


def identity(model: Model) -> ModelIdentity:
    """The identity that masks of this model carry."""
    source, base = model.source, model.against
    against = None
    if base is not None:
        against = BaseIdentity(source=base.source.origin, revision=base.source.revision, weights=base.weights)
    return ModelIdentity(
        source=source.origin,
        revision=source.revision,
        digest=model.digest,
        basis=model.basis,
        weights=model.parts.weights,
        dtype=model.dtype,
        against=against,
    )


def tolerance(*types: str | None) -> float:
    """By how much a sigma may differ, relative to s_0, between models that were loaded in these types."""
    return max(SIGMA_TOLERANCE, *(torch.finfo(getattr(torch, one)).eps for one in types if one in DTYPES))


def may_belong(mask: Mask, model: Model) -> bool:
    """Whether `adopted` may take the mask: it holds the model's identity, or that of some weights alone."""
    own = identity(model)
    return mask.model.basis == own.basis and (is_of(mask, model) or mask.model.weights is None)


def is_of(mask: Mask, model: Model) -> bool:
    """Whether a mask holds the model's identity, or one that it had in an earlier version."""
    return mask.model.digest == model.digest or mask.model.digest in model.earlier


def names(model: Model) -> frozenset[str]:
    """Digests under which masks of this model are known: its identity, now and before, and its weights.

    That of the weights in another type than they are stored in, or in the folded basis, takes longer to find out: a
    mask that is not among these may be one of this model (`adopted`).
    """
    known = {model.digest} | model.earlier
    return frozenset(known | {model.parts.weights} if model.basis == "raw" else known)


def adopted(view: View, mask: Mask, svds: SvdCache, notify: Notify = warnings.warn) -> Mask:
    """The mask, with the identity of the view's model.

    Args:
        view: of the model.
        mask: as it was read from a file.
        svds: decompositions.
        notify: told in one sentence, once for each mask and model, that the file identifies the weights alone.

    Raises:
        MaskError: a mask of another model.
    """
    own = identity(view.model)
    if mask.model.digest != own.digest and mask.model.basis == own.basis and is_of(mask, view.model):
        return mask.of_model(own.model_copy(update={"dtype": mask.model.dtype}))
    if mask.model.digest == own.digest or mask.model.weights is not None or mask.model.basis != own.basis:
        mask.check_model(own)
        return mask
    known, name = _judged(view, mask, svds)
    found, notice = known[name]
    if isinstance(found, MaskError):
        raise MaskError(str(found))
    if notice is not None:
        known[name] = found, None
        notify(notice)
    return found


def belongs(view: View, mask: Mask, svds: SvdCache) -> bool:
    """Whether `adopted` takes the mask."""
    if not may_belong(mask, view.model):
        return False
    if is_of(mask, view.model):
        return True
    known, name = _judged(view, mask, svds)
    return isinstance(known[name][0], Mask)


def _judged(view: View, mask: Mask, svds: SvdCache) -> tuple[dict[str, Judgement], str]:
    """Judgements on masks of the view's model, and under which name that on this one is, which is made only once."""
    name = f"{mask.digest} {mask.provenance!r}"
    with _LOCK:
        known = _ADOPTED.setdefault(view.model, {})
        if name not in known:
            known[name] = _adoption(view, mask, svds)
    return known, name


def _adoption(view: View, mask: Mask, svds: SvdCache) -> Judgement:
    """The judgement on a mask that identifies weights alone."""
    model, own = view.model, identity(view.model)
    dtype = _made_in(view, mask, svds)
    if dtype is None:
        return MaskError(mask.misfit(own) or ""), None
    found = mask.of_model(own.model_copy(update={"dtype": dtype}))
    try:
        agrees = _means_agree(model, mask, dtype, svds=svds)
    except ExplorerError:  # the task, a matrix or a value is not there, which others say better
        agrees = None
    if agrees is False:
        return MaskError(
            f"the mask was made for {mask.model.source} with the weights of {own.source}, but another configuration or "
            "tokenizer: its frozen means are not those of this model; load that model, or make a mask for this one."
        ), None
    if agrees or not len(mask):
        return found, None
    return found, (
        f"The mask file identifies the weights of {own.source} alone: whether it was made with this configuration and "
        "tokenizer cannot be checked. Save it again if it was."
    )


def _made_in(view: View, mask: Mask, svds: SvdCache) -> str | None:
    """The type in which the model's weights have the digest that the mask holds; None if there is none."""
    model, wanted = view.model, mask.model.digest
    if model.basis == "raw" and wanted == model.parts.weights:
        return model.parts.stored if model.parts.stored in DTYPES else model.dtype
    with _LOCK:
        known = _WEIGHTS.setdefault(model, {})
    known.setdefault(model.dtype, model.weights_now())
    if known[model.dtype] != wanted and not _similar(view, mask, svds):
        return None
    for dtype in (model.dtype, *(one for one in DTYPES if one != model.dtype)):
        if dtype not in known:
            known[dtype] = _in_type(model, dtype).weights_now()
        if known[dtype] == wanted:
            return dtype
    return None


def _in_type(model: Model, dtype: str) -> Model:
    return model if dtype == model.dtype else load(model.source.name, **model.as_asked, dtype=dtype)


def _similar(view: View, mask: Mask, svds: SvdCache) -> bool:
    """Whether the mask's sigmas are, roughly, those of the model: spares reading another model in every type."""
    loosest = tolerance("bfloat16")
    try:
        for key in mask.by_matrix:
            check(view, key)
        for key, decomposition in svds.get_many(view, tuple(mask.by_matrix)).items():
            limit = loosest * float(decomposition.s[0])
            for one in mask.by_matrix[key]:
                if one.index >= decomposition.rank or abs(float(decomposition.s[one.index]) - one.sigma) > limit:
                    return False
    except ExplorerError:
        return False
    return True


def _means_agree(model: Model, mask: Mask, dtype: str, svds: SvdCache) -> bool | None:
    """Whether the frozen means are this model's on the examples that the mask names; None if that says nothing."""
    task = source_task(mask) if mask.mode == "freeze" and len(mask) and not mask.has_released_means else None
    if task is None:
        return None
    off = _off(_in_type(model, dtype).view(), mask, task, svds=svds)
    rounding = torch.finfo(getattr(torch, dtype)).eps
    agree, differ = max(MEANS_AGREE, 2 * rounding), max(MEANS_DIFFER, 4 * rounding)
    deepest = max((key.layer, _PLACES[key.kind]) for key in mask.by_matrix)
    if all(distance <= agree for distance in off.values()):
        return True if deepest >= _WHOLE_BLOCK else None
    if task.digest != mask.provenance.task_digest:  # other examples have other means
        return None
    first = min((key.layer, _PLACES[key.kind]) for key in mask.by_matrix)
    unaffected = {key for key in mask.by_matrix if (key.layer, _PLACES[key.kind]) == first}
    at_masks = mask.provenance.strategy is None or mask.provenance.strategy in _AT_MASKS
    judged = unaffected if at_masks else set(off)
    return False if any(off[key] > differ for key in judged) else None


def source_task(mask: Mask) -> Task | None:
    """The built-in task that a mask was made on, as far as it says so; None if it was made in another way.

    Masks of before do not say how their task was split: as published, where that gives the task that they name.
    """
    made = mask.provenance
    told = made.task in TASKS and not TASKS[made.task].needs_data and made.split == "train" and made.seed is not None
    if not told or made.derived is not None:
        return None
    cases = as_cases(made.splits or USUAL_CASES.splits, made.hold_out, made.wordings, only=made.only)
    found = _read(made, cases)
    if made.splits is not None or cases != USUAL_CASES or found.digest == made.task_digest:
        return found
    return _read(made, as_cases("published"))


def _read(made: Provenance, cases: Cases) -> Task:
    return load_task(
        str(made.task), made.seed or 0, shots=made.shots or 0, template=made.template, cases=cases,
        framing=as_framing(made.bos, chat=made.chat, system=made.system),
    )  # fmt: skip


def read_for(mask: Mask, task: Task) -> tuple[Example, ...] | None:
    """What the search for a mask has read, as far as that can be told beside a task; None if it cannot."""
    made = mask.provenance
    source = source_task(mask)
    own = (task.name, task.seed, "train", task.cases.only)
    if source is None and (made.task, made.seed, made.split, made.only) == own:
        source = task  # a file or data from elsewhere
    return None if source is None else read_in_search(source, made.examples)


def _off(view: View, mask: Mask, task: Task, svds: SvdCache) -> dict[MatrixKey, float]:
    """By how much the frozen means of each matrix differ at most, relative to the length of its mean input."""
    sites = tuple(dict.fromkeys(key.stacked for key in mask.by_matrix))
    examples = task.split("train", mask.provenance.examples)
    kept = keep(view, batches(view, task, examples), inputs=sites, memory_bytes=0)
    found = {}
    for key, values in mask.by_matrix.items():
        mean = kept.means[key.stacked][parts_of(view, key)[0]]
        c = fitting(view, key, values, svds=svds).reads(mean)
        found[key] = max(abs(float(c[one.index]) - one.c) for one in values) / max(float(mean.norm()), 1e-30)
    return found
