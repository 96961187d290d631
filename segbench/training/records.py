"""The records of torch's zip files, looked at before torch unpacks them.

torch stores tensors as they are. A compressed record may unpack to a thousand times its size, and
two records may claim the same bytes: such a file fills the memory before it is refused.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from typing import IO

_MAGIC = b"PK\x03\x04"


class RecordsError(ValueError):
    """A zip file that torch did not write; the message says why not."""


def check_records(
    file: IO[bytes], may_compress: Callable[[str], bool] = lambda name: False, allowance: int = 0
) -> list[str]:
    """The names of the records of a zip file, none of which will unpack to more than it may.

    Nothing is checked, and nothing found, where the file is no zip.

    Args:
        file: open for reading; it is left at its beginning.
        may_compress: whether a record of that name is one that torch compresses.
        allowance: bytes by which the records may be larger than the file.

    Raises:
        RecordsError: it has other records than torch writes.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(len(_MAGIC)) != _MAGIC:
        file.seek(0)
        return []
    try:
        with zipfile.ZipFile(file) as records:
            found = records.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise RecordsError(f"it is not a whole zip file ({error})") from None
    file.seek(0)
    for record in found:
        if record.compress_type != zipfile.ZIP_STORED and not may_compress(record.filename):
            raise RecordsError(
                f"it has the compressed record {record.filename!r}; torch stores tensors"
            )
    if sum(record.file_size for record in found) > size + allowance:
        raise RecordsError("it has records that are together larger than the file")
    names = [record.filename for record in found]
    if len(set(names)) < len(names):
        raise RecordsError("it has two records of one name")
    return names
