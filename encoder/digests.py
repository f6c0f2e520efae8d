"""Identities of what is equal in every byte: of values, of tensors, of an encoder."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder.space import ID_LENGTH


def canonical_json(value: Any) -> bytes:
    """Encode `value` as JSON with sorted keys and no spaces: equal values, equal bytes."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode()


def digest_json(value: Any) -> str:
    """Return the sha256 (hex) of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def digest_tensors(tensors: Mapping[str, NDArray[Any]]) -> str:
    """Return the sha256 (hex) over sorted name, dtype, shape and little-endian bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = np.asarray(tensors[name])
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(canonical_json([name, array.dtype.name, list(array.shape)]))
        digest.update(array.tobytes())
    return digest.hexdigest()


def digest_encoder(
    tensors_digest: str, preprocess: Mapping[str, Any], precision: str, averaging: str = "none"
) -> str:
    """Return the 16-hex identity of an encoder: weights, preprocessing, precision, averaging."""
    identity = {
        "tensors": tensors_digest,
        "preprocess": dict(preprocess),
        "precision": precision,
        "averaging": averaging,
    }
    return digest_json(identity)[:ID_LENGTH]
