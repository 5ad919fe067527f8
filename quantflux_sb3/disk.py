"""Files that are whole or absent."""

import os
import uuid
from pathlib import Path


def write_whole(path: str | Path, content: bytes) -> Path:
    """
    Write a file beside its place and move it there when it is complete, so that nobody ever sees half of it.

    :param path: file in an existing folder; replaced if there
    :param content: all of it
    :return: the path
    """
    path = Path(path)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # or a loss of power could leave a file of the right name and no content
        os.replace(draft, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error  # the name that the caller knows
    finally:
        draft.unlink(missing_ok=True)
    return path
