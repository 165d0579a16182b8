"""NumPy's `.npy` files from untrusted sources: nothing is unpickled, and memory is bounded by the file's size."""

from __future__ import annotations

import tokenize
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from comemory.errors import DatasetError


def open_npy(path: Path) -> NDArray[Any]:
    """Map the array of a `.npy` file into memory; its numbers are read when they are used.

    Raises:
        DatasetError: the file cannot be read, is cut short, or holds anything but bool, integer or real numbers.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array = np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, TypeError, EOFError, SyntaxError, OverflowError, MemoryError, tokenize.TokenError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DatasetError(f"{path}: is not a whole .npy file of plain numbers: {reason}") from None
    if array.dtype.kind not in "biuf":
        raise DatasetError(f"{path}: holds values of type {array.dtype}, expected bool, integer or real numbers")
    return array


def as_bool(path: Path, values: NDArray[Any], what: str) -> NDArray[np.bool_]:
    """Convert numbers that must be 0 or 1 to bool.

    Raises:
        DatasetError: a value is neither 0 nor 1; the text gives their number and the position of the first.
    """
    values = np.asarray(values)
    wrong = ~((values == 0) | (values == 1))
    if wrong.any():
        first = int(np.argmax(wrong))
        count = int(np.count_nonzero(wrong))
        raise DatasetError(
            f"{path}: {count} of {values.size} {what} are not 0 or 1; the first is {values.flat[first]} at {first}"
        )
    return values.astype(np.bool_)
