"""How files name a matrix."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from explorer.core.errors import MatrixError
from explorer.core.keys import MatrixKey


def _canonical(text: str) -> str:
    try:
        return str(MatrixKey.parse(text))
    except MatrixError as error:
        raise ValueError(str(error)) from None


MatrixName = Annotated[str, Field(max_length=40), AfterValidator(_canonical)]  # as `MatrixKey` writes it
