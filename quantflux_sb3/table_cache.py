"""
Tables that are computed once and kept on disk, named by a hash of everything they depend on.

They can always be computed again: what is damaged or cannot be written is computed, without a word to the user.
"""

import io
import logging
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from quantflux_sb3.disk import write_whole
from quantflux_sb3.market.cache import cache_dir

logger = logging.getLogger(__name__)

#: Tables kept; the ones that were not read for longest go first.
MAX_TABLES = 32
_DIGEST = 64  # bytes of the checksum, in hexadecimal, before the arrays


def cached_arrays(key: str, compute: Callable[[], Sequence[np.ndarray]], folder: str | Path | None = None) -> list[np.ndarray]:
    """
    :param key: hash of everything that the arrays depend on
    :param compute: makes them
    :param folder: of the cache
    :return: the arrays, from disk if they are there and whole
    """
    path = _folder(folder) / f"{key}.npz"
    found = _read(path)
    if found is not None:
        return found
    arrays = list(compute())
    buffer = io.BytesIO()
    np.savez(buffer, *arrays)
    content = buffer.getvalue()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, sha256(content).hexdigest().encode() + content)
        for old in _oldest_first(path.parent)[:-MAX_TABLES]:
            old.unlink(missing_ok=True)
    except OSError as error:
        logger.debug("tables are not kept: %s", error)
    return arrays


def clear_tables(folder: str | Path | None = None) -> int:
    """
    :param folder: of the cache
    :return: number of tables deleted
    """
    paths = _oldest_first(_folder(folder))
    for path in paths:
        path.unlink(missing_ok=True)
    return len(paths)


def _folder(folder: str | Path | None) -> Path:
    return cache_dir(folder) / "tables"


def _oldest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.npz"), key=lambda path: path.stat().st_mtime)


def _read(path: Path) -> list[np.ndarray] | None:
    try:
        content = path.read_bytes()
        if sha256(content[_DIGEST:]).hexdigest().encode() != content[:_DIGEST]:
            return None
        path.touch()
        with np.load(io.BytesIO(content[_DIGEST:]), allow_pickle=False) as stored:
            return [stored[f"arr_{i}"] for i in range(len(stored.files))]
    except (OSError, ValueError, KeyError):
        return None
