"""What the search service is asked and what it answers: the contract that OpenAPI tells."""

import base64
import binascii
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from encoder.errors import PocketlensError
from server_index.filters import LONGEST_FILTER
from server_index.items import LONGEST_ID

MOST_DIMS = 8192
_LONGEST_BASE64 = MOST_DIMS * 4 * 4 // 3 + 4
MOST_ITEMS = 1000

Vector = Annotated[
    Annotated[str, Field(max_length=_LONGEST_BASE64)]
    | Annotated[list[FiniteFloat], Field(min_length=1, max_length=MOST_DIMS)],
    Field(description="Unit vector: base64 of little-endian float32, or numbers."),
]
Id = Annotated[str, Field(min_length=1, max_length=LONGEST_ID)]
SpaceId = Annotated[str, Field(max_length=64, description="Space of the vector's encoder.")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SearchRequest(_Strict):
    """Ask for the items nearest to a vector."""

    vector: Vector
    space: SpaceId
    k: Annotated[int, Field(ge=1, description="Number of answers.")] = 10
    filter: Annotated[
        str | None,
        Field(max_length=LONGEST_FILTER, description="As: price < 20 and brand in ('a', 'b')."),
    ] = None


class FoundItem(BaseModel):
    """One answer; `score` is the cosine."""

    id: str
    score: float
    metadata: dict[str, Any]


class SearchResponse(BaseModel):
    """Answers, best first, and the generation of the index in which they were found."""

    space: str
    generation: int
    answers: list[FoundItem]


class SpaceResponse(BaseModel):
    """What the index holds, and whose vectors may ask it."""

    space: str
    dim: int
    accepts: list[str]
    items: int
    generation: int
    damaged: int


class NewItem(_Strict):
    """An item to add."""

    id: Id
    vector: Vector
    path: Annotated[str, Field(max_length=4096)] = ""
    metadata: dict[str, str | int | FiniteFloat | bool | None] = {}


class AddRequest(_Strict):
    """Items to add, all of them or none; with `replace`, those that are there are replaced."""

    items: Annotated[list[NewItem], Field(min_length=1, max_length=MOST_ITEMS)]
    space: SpaceId
    encoder: Annotated[
        str, Field(pattern="^[0-9a-f]{16}$", description="Digest of the vectors' encoder.")
    ]
    replace: bool = False


class DeleteRequest(_Strict):
    """Ids of the items to delete."""

    ids: Annotated[list[Id], Field(min_length=1, max_length=MOST_ITEMS)]


class ChangeResponse(BaseModel):
    """How many items a change concerned, and the generation that it made."""

    count: int
    generation: int


class Problem(BaseModel):
    """Why a request was not served."""

    detail: str


def read_vector(value: str | list[float]) -> NDArray[np.float32]:
    """Return a vector `[1, n]`.

    Raises:
        PocketlensError: when it is not base64 of float32 numbers.
    """
    if isinstance(value, list):
        with np.errstate(over="ignore"):
            return np.array([value], np.float32)
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise PocketlensError("vector: not base64") from None
    if not data or len(data) % 4:
        raise PocketlensError(f"vector: {len(data)} bytes are not float32 numbers")
    return np.frombuffer(data, "<f4")[None].astype(np.float32)
