"""Tests of space ids and encoder digests."""

import json
from typing import Any

import numpy as np
import pytest

from encoder.digests import canonical_json, digest_encoder, digest_tensors
from encoder.errors import PocketlensError
from encoder.preprocess import Preprocess
from encoder.space import EmbeddingSpace, mint_space, require_same_space

# Ids are written into files and compared across machines: these values never change.
GOLDEN_TENSORS = "e0a20585d738f03cfdf3dc48f6293847904725dd1692d60e58857fe6e7e9abc5"
GOLDEN_SPACE = "e7751bbd6ffe8a73"
GOLDEN_ENCODER = "a97c0d9ccb15513a"


def tensors() -> dict[str, np.ndarray]:
    return {
        "trunk.weight": np.arange(12, dtype=np.float32).reshape(3, 4) / 7,
        "trunk.bias": np.array([-1.5, 0.0, 2.0], np.float32),
        "steps": np.array([3], np.int64),
    }


def test_ids_are_golden() -> None:
    digest = digest_tensors(tensors())
    assert digest == GOLDEN_TENSORS
    assert mint_space("teacher", 4, digest).id == GOLDEN_SPACE
    assert digest_encoder(digest, Preprocess(224).to_json(), "fp32") == GOLDEN_ENCODER


def test_order_and_layout_do_not_matter() -> None:
    given = tensors()
    backwards = dict(reversed(given.items()))
    assert list(backwards) != list(given)
    assert digest_tensors(backwards) == GOLDEN_TENSORS
    fortran = {name: np.asfortranarray(value) for name, value in given.items()}
    assert digest_tensors(fortran) == GOLDEN_TENSORS
    big_endian = {name: v.astype(v.dtype.newbyteorder(">")) for name, v in given.items()}
    assert digest_tensors(big_endian) == GOLDEN_TENSORS


def test_any_byte_changes_the_digest() -> None:
    for name, value in tensors().items():
        for index in range(value.nbytes):
            changed = tensors()
            changed[name].view(np.uint8).reshape(-1)[index] ^= 1
            assert digest_tensors(changed) != GOLDEN_TENSORS


def test_shape_dtype_and_name_change_the_digest() -> None:
    given = tensors()
    zeros = np.zeros(4, np.float32)
    variants: list[dict[str, np.ndarray]] = [
        given,
        {**given, "trunk.weight": given["trunk.weight"].reshape(4, 3)},
        {**given, "trunk.weight": given["trunk.weight"].reshape(12)},
        {**given, "steps": given["steps"].view(np.uint64)},
        {**given, "steps": given["steps"].view(np.float64)},
        {**given, "more": np.zeros(0, np.float32)},
        {name: value for name, value in given.items() if name != "steps"},
        {("step" if name == "steps" else name): value for name, value in given.items()},
        {},
        {"a": zeros, "b": zeros},
        {"a": np.zeros(8, np.float32)},
    ]
    assert len({digest_tensors(variant) for variant in variants}) == len(variants)


def test_a_scalar_is_not_a_vector_of_one() -> None:
    assert digest_tensors({"p": np.array(3.0)}) != digest_tensors({"p": np.array([3.0])})


def test_everything_that_defines_a_space_changes_its_id() -> None:
    digest, other = digest_tensors(tensors()), "0" * 64
    parent = "a" * 16
    spaces = [
        mint_space("teacher", 4, digest),
        mint_space("teacher", 4, other),
        mint_space("teacher", 5, digest),
        mint_space("student", 4, digest),
        mint_space("teacher", 4, digest, parents=(parent,)),
        mint_space("teacher", 4, digest, parents=("b" * 16,)),
        mint_space("teacher", 4, digest, parents=(parent, "b" * 16)),
        mint_space("teacher", 4, digest, parents=("b" * 16, parent)),
        mint_space("teacher", 4, digest, transform_digest="x"),
    ]
    assert len({space.id for space in spaces}) == len(spaces)
    assert all(len(space.id) == 16 and int(space.id, 16) >= 0 for space in spaces)
    assert mint_space("teacher", 4, digest, parents=(parent,)).parents == (parent,)


def test_everything_that_defines_an_encoder_changes_its_digest() -> None:
    plain = Preprocess(112).to_json()
    digests = [
        digest_encoder("t", plain, "fp32"),
        digest_encoder("u", plain, "fp32"),
        digest_encoder("t", plain, "int8"),
        digest_encoder("t", plain, "fp32", "flip"),
        digest_encoder("t", Preprocess(128).to_json(), "fp32"),
        digest_encoder("t", Preprocess(112, fit="crop").to_json(), "fp32"),
        digest_encoder("t", Preprocess(112, crop=0.875).to_json(), "fp32"),
        digest_encoder("t", Preprocess(112, mean=(127.0, 127.0, 127.5)).to_json(), "fp32"),
        digest_encoder("t", Preprocess(112, std=(1.0, 128.0, 128.0)).to_json(), "fp32"),
    ]
    assert len(set(digests)) == len(digests)
    assert all(len(digest) == 16 for digest in digests)
    assert digest_encoder("t", dict(reversed(plain.items())), "fp32") == digests[0]


def test_the_digest_survives_the_way_through_a_file() -> None:
    # Whole numbers are floats to the type checker, and "1" is not "1.0" in JSON.
    given = Preprocess(112, crop=1, mean=(127, 127, 127), std=(128, 128, 128))
    read = Preprocess.from_json(json.loads(json.dumps(given.to_json())), "x")
    assert digest_encoder("t", read.to_json(), "fp32") == digest_encoder(
        "t", given.to_json(), "fp32"
    )


def test_canonical_json_is_one_text_per_value() -> None:
    assert canonical_json({"b": [1, "é"], "a": None}) == b'{"a":null,"b":[1,"\\u00e9"]}'
    with pytest.raises(ValueError):
        canonical_json({"a": float("nan")})


def test_a_space_goes_round() -> None:
    space = EmbeddingSpace(
        "0123456789abcdef", 8, "rotated", parents=("f" * 16,), compatible_with=("e" * 16, "d" * 16)
    )
    value = json.loads(json.dumps(space.to_json()))
    assert value["parents"] == ["f" * 16]
    assert EmbeddingSpace.from_json(value, "card.json") == space


@pytest.mark.parametrize(
    "change",
    [
        {"id": "short"},
        {"id": "0" * 17},
        {"dim": 0},
        {"dim": -4},
        {"dim": "many"},
        {"dim": None},
        {"dim": float("inf")},
        {"dim": 2.5},
        {"kind": "nonsense"},
        {"kind": None},
        {"metric": "euclidean"},
        {"parents": None},
        {"parents": 3},
        {"parents": "abc"},
        {"compatible_with": 3},
    ],
    ids=str,
)
def test_a_bad_field_names_the_file(change: dict[str, Any]) -> None:
    value = {**mint_space("teacher", 4, "t").to_json(), **change}
    with pytest.raises(PocketlensError, match=r"^card\.json: "):
        EmbeddingSpace.from_json(value, "card.json")


@pytest.mark.parametrize("field", ["id", "dim", "kind", "metric", "parents", "compatible_with"])
def test_a_missing_field_is_named(field: str) -> None:
    value = mint_space("teacher", 4, "t").to_json()
    del value[field]
    with pytest.raises(PocketlensError, match=rf"^card\.json: .*{field}"):
        EmbeddingSpace.from_json(value, "card.json")


def test_a_value_that_is_no_object_names_the_file() -> None:
    with pytest.raises(PocketlensError, match=r"^card\.json: "):
        EmbeddingSpace.from_json([1], "card.json")  # type: ignore[arg-type]


def test_two_spaces_are_not_compared() -> None:
    one, other = mint_space("teacher", 4, "t"), mint_space("teacher", 4, "u")
    require_same_space(one, mint_space("teacher", 4, "t"), what="the student")
    with pytest.raises(PocketlensError) as caught:
        require_same_space(one, other, what="the student")
    message = str(caught.value)
    assert message.startswith("the student")
    assert one.id in message
    assert other.id in message
    assert "\n" not in message
