"""Write files so that a full disk names them; numpy files by the stream's own writing.

Numpy's says of a full disk only that fewer numbers were written, and names neither reason nor file.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


def write_array(file: Path, values: NDArray[Any]) -> None:
    """Write an array in C order.

    Raises:
        OSError: naming the file, when it cannot be written.
    """
    with naming(file), file.open("wb") as stream:
        write_header(stream, values.dtype, values.shape)
        stream.write(np.ascontiguousarray(values).data)


@contextlib.contextmanager
def naming(file: Path) -> Iterator[None]:
    """Name the file in an `OSError` that names none: one of writing or closing a stream."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(file)
        raise


def write_header(stream: IO[bytes], number: DTypeLike, shape: tuple[int, ...]) -> None:
    """Write what a numpy file begins with; the rows follow, in C order."""
    described = np.lib.format.dtype_to_descr(np.dtype(number))
    header = {"descr": described, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
