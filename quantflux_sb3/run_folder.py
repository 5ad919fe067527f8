"""The folder of one run: named, claimed, and filled with files that are whole or absent."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

#: Written when everything else is.
LAST_FILE = "metrics.json"


class RunFolder:
    """
    :param path: of an existing folder
    """

    def __init__(self, path: Path):
        self.path = path

    @classmethod
    def create(cls, output: str, name: str | None) -> "RunFolder":
        """
        :param output: folder of all runs
        :param name: of this run; the next free ``run-001`` if not given
        :raises ValueError: if it exists or cannot be written
        """
        root = Path(output)
        if name is not None and (not name or Path(name).name != name or name in (".", "..")):
            raise ValueError(f"A run's name is one folder name; got '{name}'.")
        try:
            root.mkdir(parents=True, exist_ok=True)
            while True:
                path = root / (name or _free_name(root))
                try:
                    path.mkdir()
                    return cls(path)
                except FileExistsError as error:
                    if name is not None:
                        raise ValueError(f"There is a run '{path}' already; use --resume, or another --name.") from error
        except OSError as error:
            raise ValueError(f"The output folder '{root}' cannot be written: {error.strerror}. Choose another.") from error

    @classmethod
    def existing(cls, output: str, name: str | None) -> "RunFolder":
        """
        :param output: folder of all runs
        :param name: of the run; the newest unfinished one if not given
        :raises ValueError: if there is none
        """
        root = Path(output)
        if name is not None:
            path = root / name
            if not (path / "config.yml").is_file():
                raise ValueError(f"There is no run '{path}' to resume; its config.yml is missing.")
            return cls(path)
        unfinished = [p.parent for p in root.glob("*/config.yml") if not (p.parent / LAST_FILE).is_file()]
        if not unfinished:
            raise ValueError(f"There is no unfinished run in '{root}'; give --name, or start one without --resume.")
        return cls(max(unfinished, key=lambda path: (path / "config.yml").stat().st_mtime))

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """
        Keep other processes from working in this folder at the same time. A process that dies gives its claim back.

        :raises ValueError: if another one does already
        """
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise ValueError(f"Another process is working on the run '{self.path}'; wait for it, or stop it.") from error
        try:
            yield
        finally:
            (self.path / ".lock").unlink(missing_ok=True)
            lock.release()

    def child(self, name: str) -> "RunFolder":
        """
        :param name: of a folder within this one; made if not there
        """
        (self.path / name).mkdir(parents=True, exist_ok=True)
        return RunFolder(self.path / name)

    def discard(self) -> None:
        """Delete the folder of a run that has not begun."""
        _remove(self.path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def has(self, name: str) -> bool:
        return (self.path / name).exists()

    def write(self, name: str, writer: Callable[[Path], Any]) -> Path:
        """
        Let ``writer`` write to a temporary path in this folder and move it into place: whole or absent.

        :param name: of the file or folder
        :param writer: takes the temporary path, which has the suffix of ``name``
        :return: where it lies
        """
        target = self.path / name
        target.parent.mkdir(exist_ok=True)
        partial = target.with_name(f".partial-{target.name}")
        _remove(partial)
        try:
            writer(partial)
            if target.is_dir():
                _remove(target)
            os.replace(partial, target)
        finally:
            _remove(partial)
        return target

    def write_text(self, name: str, text: str) -> Path:
        return self.write(name, lambda path: path.write_text(text, encoding="utf-8"))

    def write_json(self, name: str, content: Any) -> Path:
        return self.write_text(name, json.dumps(content, indent=2, allow_nan=False) + "\n")

    def read_json(self, name: str) -> Any:
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"'{self.path / name}' is damaged ({error}); delete it.") from error


def _free_name(root: Path) -> str:
    taken = {path.name for path in root.iterdir()}
    return next(name for number in range(1, 10**6) if (name := f"run-{number:03d}") not in taken)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
