"""Undo and redo over a session's masks, as a frozen value."""

from __future__ import annotations

from dataclasses import dataclass

from explorer.masks import Mask

DEPTH = 200


@dataclass(frozen=True)
class History:
    """The masks that a session went through, and which one it is at."""

    masks: tuple[Mask, ...]
    position: int = 0

    @property
    def mask(self) -> Mask:
        """The current mask."""
        return self.masks[self.position]

    @property
    def can_undo(self) -> bool:
        """Whether there is an earlier mask."""
        return self.position > 0

    @property
    def can_redo(self) -> bool:
        """Whether there is a mask that was undone."""
        return self.position < len(self.masks) - 1

    def push(self, mask: Mask) -> History:
        """Go on with `mask`; what was undone is forgotten, and so is the oldest beyond `DEPTH`."""
        if mask.digest == self.mask.digest:
            return self
        masks = (*self.masks[: self.position + 1], mask)[-DEPTH:]
        return History(masks, len(masks) - 1)

    def undo(self) -> History:
        """Step back, if there is a step."""
        return History(self.masks, max(self.position - 1, 0))

    def redo(self) -> History:
        """Step forward again, if there is a step."""
        return History(self.masks, min(self.position + 1, len(self.masks) - 1))
