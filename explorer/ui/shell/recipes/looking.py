"""Recipes of the Spectra and Activations pages: what matrices are like, and what happens on one prompt."""

from __future__ import annotations

from collections.abc import Sequence

from explorer.core.keys import AnyKey, MatrixKey
from explorer.tasks import AS_USUAL, Example, framing_words
from explorer.ui.shell.recipes.setting import Recipe, Setting, code, limit_argument, mask_call

_DECOMPOSE = "decompose_circuit(view, key) if isinstance(key, CircuitKey) else svds.get(view, key)"
_PARTS = (
    "from explorer.spectra.circuits import decompose_circuit",
    "from explorer.core.keys import CircuitKey, parse_key",
)


def spectra(given: Setting, keys: Sequence[AnyKey]) -> Recipe:
    """Singular values of matrices and products, and what describes their spectra."""
    named = [word for key in keys for word in ("--matrix", str(key))]
    python = code(
        given.opening("", *_PARTS, "from explorer.spectra.measures import summarise", task=False),
        "",
        f"for key in map(parse_key, {[str(key) for key in keys]}):",
        f"    found = {_DECOMPOSE}",
        "    print(key, found.s.tolist())",
        "    print(summarise(found.s, found.u.shape[0], found.vh.shape[1]))",
    )
    return Recipe("Spectra and their measures", python, given.command("spectra", given.model_words(), named))


def readout(given: Setting, key: AnyKey, index: int, tokens: int) -> Recipe:
    """The tokens that one singular value reads and writes, and its exact effect if it can be removed."""
    words = ["--matrix", str(key), "--index", str(index), "--tokens", str(tokens), "--mode", given.mode]
    words += ["--limit", str(given.train)]
    further = [*_PARTS, "from explorer.measure.readout import readouts"]
    effect: list[str] = []
    if isinstance(key, MatrixKey):
        further += [
            "from explorer.attribution.exact import exact_effects",
            "from explorer.measure.batches import batches",
        ]
        effect = [
            "",
            f'examples = batches(view, task, task.split("train"{limit_argument(given.score_limit)}))',
            f"effect = exact_effects(view, examples, svds, [(key, {index})], mode={given.mode!r})",
            f'print(f"exact effect {{effect.values[key, {index}].value:+}} nats")',
        ]
    python = code(
        given.opening("", *further, task=isinstance(key, MatrixKey)),
        f'key = parse_key("{key}")',
        f"found = {_DECOMPOSE}",
        "",
        f"for one in readouts(view, key, found, [{index}], {tokens}):",
        "    for end in (one.plus, one.minus):",
        "        print(one.vector, one.side, [(token.text, token.value) for token in end])",
        effect,
    )
    title = f"Tokens of value {index} of {key}"
    return Recipe(title, python, given.command("readout", given.model_words(), given.task_words(), words))


def against(given: Setting, other: str, keys: Sequence[AnyKey], overlap: int) -> Recipe:
    """What a second model changed in matrices and products; `overlap` leading singular vectors are compared."""
    named = [word for key in keys for word in ("--matrix", str(key))]
    words = ["--against", other, *named, "--overlap", str(overlap)]
    python = code(
        given.opening("compare_matrix", "from explorer.core.keys import parse_key", task=False),
        f"other = {given.load_call(other)}.view()",
        "",
        f"for key in map(parse_key, {[str(key) for key in keys]}):",
        "    found = compare_matrix(view, other, key, svds)",
        f"    overlap = found.overlap(min({overlap}, found.base.rank))",
        "    u, v = overlap.left, overlap.right",
        '    print(f"{key}: size of the difference {found.size}, energy counts {found.rank.energy_counts}")',
        '    print(f"{key}: overlap u {u.similarity}, v {v.similarity}; {u.chance_similarity}, {v.chance_similarity} '
        'by chance")',
    )
    return Recipe("What changed between two models", python, given.command("spectra", given.model_words(), words))


def activations(
    given: Setting, prompt: str | Example, place: tuple[int, int | None], top: int, answer: str | None = None
) -> Recipe:
    """One prompt through the unpruned model and through the mask.

    Args:
        given: the model, the mask, and what the task puts around a prompt.
        prompt: the prompt; of an example, with what is shown before it.
        place: layer and query head whose attention is looked at; no head for all of the layer's.
        top: number of most likely next tokens.
        answer: what should follow, whose first token comes first in the logit lens.
    """
    layer, head = place
    asked = Example(prompt, "") if isinstance(prompt, str) else prompt
    words = ["--prompt", asked.prompt, "--head", f"L{layer}" + ("" if head is None else f".H{head}"), "--top", str(top)]
    words += [*([] if answer is None else ["--answer", answer]), *framing_words(given.task.around)]
    words += [word for turns in asked.shown for turn in turns for word in ("--turn", turn)]
    command = given.command("activations", given.model_words(), given.mask_words(), words)
    return Recipe("One prompt, before and after", _activations_python(given, asked, place, top, answer), command)


def _activations_python(
    given: Setting, prompt: Example, place: tuple[int, int | None], top: int, answer: str | None
) -> str:
    layer, head = place
    masked, around = given.mask is not None, given.task.around
    framing = f", {around!r}" if around != AS_USUAL else ""
    one, which = (f"[{layer}]", f"L{layer}") if head is None else (f"[{layer}][{head}]", f"L{layer} head {head}")
    imports = ["from explorer.masks.activations import answer_lens, contrast" + ", written" * masked]
    tokens = f"found.next_tokens({top})"
    text = f"prompt = {prompt.prompt!r}"
    if prompt.shown:
        text = f"prompt = Example({prompt.prompt!r}, '', shown={prompt.shown!r})"
    needed = [name for name, used in (("Example", answer is not None or prompt.shown), ("Framing", framing)) if used]
    imports += [f"from explorer.tasks import {', '.join(needed)}"] if needed else []
    if answer is not None:
        example = f"prompt.answered({answer!r})" if prompt.shown else f"Example(prompt, {answer!r})"
        imports += ["from explorer.measure.tokens import encode"]
        encoded = f"encode(view.model.tokenizer, {example}{framing})"
        tokens = f"dict.fromkeys([{encoded}.answer[0], *{tokens}])"
    wrote = [
        "",
        f"wrote = written(view, mask, svds, prompt{framing})",
        "for place in wrote.by_change():",
        "    one, before, after = wrote.values[place], wrote.before[place].tolist(), wrote.after[place].tolist()",
        '    print(f"{one.matrix} {one.index} wrote {before}, now {after}")',
    ]
    return code(
        given.opening("load_mask" if masked else "empty_mask", *imports, task=False),
        text,
        f"mask = {'empty_mask(view.model)' if given.mask is None else mask_call(given.mask)}",
        "",
        f"found = contrast(view, mask, svds, prompt{framing})",
        'for name, reading in (("unpruned", found.before), ("with the mask", found.after)):',
        f"    print(name, [(view.model.tokenizer.decode([token]), p) for token, p in reading.top({top})])",
        f'    print("attention of {which}:", reading.attention{one}.tolist())',
        'print("attention moved, per layer and head:", found.head_changes().tolist())',
        'print("first layer that differs:", found.first_changed_layer())',
        'print("change of the residual stream:", found.residual_change().tolist())',
        f"for token in {tokens}:",
        "    before, after = answer_lens(found.before, [token]), answer_lens(found.after, [token])",
        '    print("logit lens of", repr(view.model.tokenizer.decode([token])), before, after)',
        wrote if masked else [],
    )
