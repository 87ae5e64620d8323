"""A mask that no search has found, reported as one: measured once on the test split, beside controls and evidence.

A mask made by hand, or one from a file, needs the same figures as the result of a search before a claim is made of it.
So it is treated as a search with one proposal, which is the result whatever it does. What needs a search of its own
(permuted answers, random bases, repeats) it cannot have.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TypedDict, Unpack

from explorer.core.errors import SettingsError
from explorer.masks.mask import Mask
from explorer.search.evidence.choice import NO_EVIDENCE, EvidenceChoice
from explorer.search.options import Chosen
from explorer.search.problem import Problem
from explorer.search.request import SearchRequest

GIVEN = "given"


class GivenOptions(TypedDict, total=False):
    """How a given mask is measured.

    Attributes:
        limit: train examples that the trained baselines read; all if not given.
        seed: of controls and baselines; 0 if not given.
        controls: draws of each random control; none if not given.
        test_limit: test examples; all if not given.
    """

    limit: int | None
    seed: int
    controls: int
    test_limit: int | None


_USUAL: GivenOptions = {"limit": None, "seed": 0, "controls": 0, "test_limit": None}


def given(problem: Problem, mask: Mask) -> None:
    """Measure the mask, which is the result."""
    point = problem.measure(mask)
    problem.decide(replace(point, mask=mask))


def given_search(mask: Mask) -> Chosen:
    """What stands in the place of a search's strategy."""
    return Chosen(partial(given, mask=mask), {"mask": mask.digest})


def given_request(mask: Mask, evidence: EvidenceChoice = NO_EVIDENCE, **how: Unpack[GivenOptions]) -> SearchRequest:
    """What is asked of the conductor; controls and baselines may use the kinds and layers that the mask uses.

    Raises:
        SettingsError: the mask removes nothing, or repeats are asked for, which only a search can have.
    """
    asked: GivenOptions = {**_USUAL, **how}
    if not len(mask):
        raise SettingsError("The mask removes nothing, so there is nothing to claim: give one that removes values.")
    if evidence.repeats > 1:
        raise SettingsError("Only a search can be repeated, and this mask comes from none: leave out the repeats.")
    keys = tuple(mask.by_matrix)
    return SearchRequest(
        GIVEN, tuple(dict.fromkeys(key.kind for key in keys)), tuple(sorted({key.layer for key in keys})),
        per_head=any(key.head is not None for key in keys), mode=mask.mode, scorer="gradient", limit=asked["limit"],
        max_removed=len(mask), seconds=None, seed=asked["seed"], controls=asked["controls"],
        test_limit=asked["test_limit"], evidence=evidence,
    )  # fmt: skip
