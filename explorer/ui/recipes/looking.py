"""Recipes of the Spectra and Activations pages: what matrices are like, and what happens on one prompt."""

from __future__ import annotations

from collections.abc import Sequence

from explorer.keys import AnyKey, MatrixKey
from explorer.ui.recipes.setting import Recipe, Setting, code, limit_argument, mask_call

_DECOMPOSE = "decompose_circuit(view, key) if isinstance(key, CircuitKey) else svds.get(view, key)"
_PARTS = ("from explorer.composed import decompose_circuit", "from explorer.keys import CircuitKey, parse_key")


def spectra(given: Setting, keys: Sequence[AnyKey]) -> Recipe:
    """Singular values of matrices and products, and what describes their spectra."""
    named = [word for key in keys for word in ("--matrix", str(key))]
    python = code(
        given.opening("", *_PARTS, "from explorer.spectrum import summarise", task=False),
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
    further = [*_PARTS, "from explorer.readout import readouts"]
    effect: list[str] = []
    if isinstance(key, MatrixKey):
        further += ["from explorer.attribution.exact import exact_effects", "from explorer.batches import batches"]
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


def activations(given: Setting, prompt: str, place: tuple[int, int], top: int) -> Recipe:
    """One prompt through the unpruned model and through the mask; the command line has none for it."""
    layer, head = place
    masked = given.mask is not None
    after = [f"apply(view, {mask_call(given.mask)}, svds)"] if given.mask is not None else []
    python = code(
        given.opening(
            "apply load_mask" if masked else "",
            "from explorer.activations import Contrast, read_prompt",
            task=False,
        ),
        f"prompt = {prompt!r}",
        "",
        f"before = read_prompt(view, prompt, bos={given.task.bos})",
        after,
        f"after = read_prompt(view, prompt, bos={given.task.bos})",
        "contrast = Contrast(before, after)",
        'for name, reading in (("unpruned", before), ("with the mask", after)):',
        f"    print(name, [(view.model.tokenizer.decode([token]), p) for token, p in reading.top({top})])",
        f"    print(reading.attention[{layer}][{head}])",
        'print("first layer that differs:", contrast.first_changed_layer())',
        "print(contrast.residual_change())",
    )
    return Recipe("One prompt, before and after", python)
