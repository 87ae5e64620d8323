"""A mask as a short text that fits into a URL, and back, bit for bit.

    <m>~<model>~<numbers>~<matrix>_<i>_<i>...~<matrix>_<i>...

`m` is f (freeze) or z (zero), followed by the gain where it is not 0, such as f0.5; `model` the first letters of the
model's digest; `numbers` sigma and c of all values as base64 of little-endian float64, so that the mask that comes back
has the digest of the one that went. Only letters that URLs leave as they are occur. Longer masks go by their id:
`id~<model>~<id>`.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Collection
from dataclasses import dataclass

from explorer.core.errors import MaskError
from explorer.masks.library import id_of
from explorer.masks.mask import Mask, Mode, ModelIdentity, Removed

INLINE = 60  # values up to which the text holds the mask itself
MODEL_LETTERS = 12
MAX_TEXT = 8_000
_HOW = re.compile(r"([fz])(0\.\d+|\d(?:\.\d+)?e-\d+)?")  # the gain as Python writes a float of (0, 1)
_MODES: dict[str, Mode] = {"f": "freeze", "z": "zero"}
_NUMBERS = 16  # bytes of sigma and c of one value
_ID = re.compile(r"id~([0-9a-f]{12})~([0-9a-f]{12})")
_BROKEN = "the link's mask is cut off or changed: copy the whole link again."


@dataclass(frozen=True)
class MaskReference:
    """What a text refers to: the beginning of a model's digest, and a mask's id or the text of the mask itself."""

    model: str
    id: str | None
    text: str


def link_text(mask: Mask) -> str:
    """The text for a mask; "" for the unpruned model in the default mode without a gain."""
    if not len(mask) and mask.mode == "freeze" and not mask.gain:
        return ""
    model = _short(mask.model)
    if len(mask) > INLINE:
        return f"id~{model}~{id_of(mask)}"
    mode = next(letter for letter, name in _MODES.items() if name == mask.mode) + (repr(mask.gain) if mask.gain else "")
    packed = b"".join(struct.pack("<2d", one.sigma, one.c) for one in mask.removed)
    numbers = base64.urlsafe_b64encode(packed).decode().rstrip("=")
    places = ("_".join((str(key), *(str(one.index) for one in values))) for key, values in mask.by_matrix.items())
    return "~".join((mode, model, numbers, *places))


def reference(text: str) -> MaskReference:
    """Which model, and which mask, a text refers to; raises MaskError for a text that `link_text` cannot have made."""
    if found := _ID.fullmatch(text):
        return MaskReference(found[1], found[2], text)
    parts = text.split("~")
    if len(text) > MAX_TEXT or len(parts) < 3 or not _HOW.fullmatch(parts[0]):
        raise MaskError(_BROKEN)
    if not re.fullmatch(rf"[0-9a-f]{{{MODEL_LETTERS}}}", parts[1]):
        raise MaskError(_BROKEN)
    return MaskReference(parts[1], None, text)


def inline_mask(text: str, identity: ModelIdentity, earlier: Collection[str] = ()) -> Mask:
    """The mask that a text holds, for the model with this identity; `earlier` are digests that it had before.

    Raises:
        MaskError: a text that does not hold a mask, or one for another model.
    """
    found = reference(text)
    check_reference(found, identity, earlier)
    if found.id is not None:
        raise MaskError(_BROKEN)
    how, _, numbers, *places = text.split("~")
    mode, gain = _MODES[how[0]], float(how[1:] or 0)
    try:
        packed = base64.b64decode(numbers + "=" * (-len(numbers) % 4), altchars=b"-_", validate=True)
        pairs = list(struct.iter_unpack("<2d", packed)) if len(packed) % _NUMBERS == 0 else []
        spots = [(matrix, int(index)) for place in places for matrix, *rest in [place.split("_")] for index in rest]
        values = [
            Removed(matrix=matrix, index=index, sigma=sigma, c=c)
            for (matrix, index), (sigma, c) in zip(spots, pairs, strict=True)
        ]
        return Mask(model=_named(found, identity), mode=mode, gain=gain, removed=tuple(values))
    except ValueError:  # pydantic's errors are, too
        raise MaskError(_BROKEN) from None


def check_reference(found: MaskReference, identity: ModelIdentity, earlier: Collection[str] = ()) -> None:
    """Raise MaskError unless the text was made for this model, or before, when links named it otherwise."""
    if found.model not in (_short(identity), _weights(identity), *map(_letters, earlier)):
        raise MaskError(
            f"the link's mask was made for other weights ({found.model}...) than those of {identity.source} "
            f"({_short(identity)}..., {identity.basis} basis): load the model that the link was made with."
        )


def _named(found: MaskReference, identity: ModelIdentity) -> ModelIdentity:
    """The identity that the text names: the model's, or that of its weights alone, which is still to be checked."""
    if found.model != _weights(identity) or identity.weights is None:
        return identity
    return identity.model_copy(update={"digest": identity.weights, "weights": None, "dtype": None})


def _short(identity: ModelIdentity) -> str:
    return _letters(identity.digest)


def _letters(digest: str) -> str:
    return digest.removeprefix("sha256:")[:MODEL_LETTERS]


def _weights(identity: ModelIdentity) -> str | None:
    """How links of before named a model in the raw basis."""
    if identity.weights is None or identity.basis != "raw":
        return None
    return identity.weights.removeprefix("sha256:")[:MODEL_LETTERS]
