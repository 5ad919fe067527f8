"""
Downloaded prices on disk: one folder per request, with a Parquet file and a manifest.

An entry is what its manifest says: the manifest is replaced last and atomically, so that a process that is killed leaves the
old entry or the new one. A file whose SHA-256 is not that of the manifest is refused. Two processes that want the same
entry wait for each other (``filelock``, which a killed process releases).
"""

import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from platformdirs import user_cache_dir

from quantflux_sb3.disk import write_whole
from quantflux_sb3.market.request import DataRequest, FetchedPrices, NoPricesError, Source, as_date

#: Environment variable with the folder of the cache.
CACHE_VARIABLE = "QUANTFLUX_CACHE_DIR"
FORMAT = 1
#: Days before the end of an entry that are fetched again when it is extended, to see whether its prices have changed.
OVERLAP_DAYS = 10
#: Prices that differ by no more are the same: sources round.
SAME_PRICE = 1e-5
LOCK_SECONDS = 600.0
_MANIFEST = "manifest.json"


def cache_dir(folder: str | Path | None = None) -> Path:
    """
    :param folder: given by the user; else the environment variable, else the platform's cache folder of this user
    """
    return Path(folder or os.environ.get(CACHE_VARIABLE) or user_cache_dir("quantflux_sb3"))


@dataclass(frozen=True)
class Manifest:
    """
    :param key: name of the entry
    :param source: name of the source
    :param request: what was asked for; its end is that of the prices
    :param source_text: where the prices came from, for people
    :param adjusted: how they are adjusted
    :param notes: of the source
    :param retrieved: when (ISO, UTC)
    :param versions: of the libraries that fetched and wrote them
    :param first: first date with a price (ISO)
    :param last: last date with a price (ISO)
    :param files: SHA-256 by file name
    """

    key: str
    source: str
    request: DataRequest
    source_text: str
    adjusted: str
    notes: tuple[str, ...]
    retrieved: str
    versions: dict[str, str]
    first: str
    last: str
    files: dict[str, str]
    format: int = FORMAT

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """
        :raises ValueError: if it is damaged
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT or content["key"] != path.parent.name or len(content["files"]) != 1:
                raise ValueError("it is that of another entry or version")
            request = DataRequest(**content.pop("request"))
            manifest = cls(request=request, **{**content, "notes": tuple(content["notes"])})
            if entry_key(manifest.source, request) != manifest.key:
                raise ValueError("its request is not that of its name")
            return manifest
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise _damaged(path.parent, f"the manifest is damaged: {error}") from error


class PriceCache:
    """
    :param folder: of the cache; see :func:`cache_dir`
    """

    def __init__(self, folder: str | Path | None = None):
        self.root = cache_dir(folder) / "prices"

    def fetch(self, source: Source, request: DataRequest, offline: bool = False, refresh: bool = False) -> FetchedPrices:
        """
        The answer to a request: from the cache if it is there, else from the source, and then kept.

        :param source: whom to ask
        :param request: what for; without an end, up to yesterday (UTC), the last day that is over everywhere
        :param offline: never ask the source
        :param refresh: ask even if it is there
        :return: prices on the dates of the request; the notes say what was used
        :raises ValueError: if the entry is damaged, or there is none offline, or the source cannot answer
        """
        wanted = replace(request, end=_last_whole_day(request.end))
        key = entry_key(source.name, request)
        with self._locked(key):
            if offline:
                return self._offline(key, wanted, open_end=request.end is None)
            manifest = None if refresh else self._manifest(key)
            if manifest is not None and as_date(manifest.request.end) >= as_date(wanted.end):
                return self._served(manifest, wanted, "from the cache")
            if manifest is not None:
                return self._extended(source, manifest, wanted)
            fetched = source.fetch(wanted)
            return self._served(self._write(key, source, wanted, fetched), wanted, "downloaded")

    def has(self, source: str, request: DataRequest) -> bool:
        """
        :param source: its name
        :param request: what is asked for
        :return: whether there is an entry for it, up to whatever end
        """
        return (self.root / entry_key(source, request) / _MANIFEST).is_file()

    def entries(self) -> list[str]:
        """
        :return: keys of the entries, damaged ones too
        """
        return sorted(path.parent.name for path in self.root.glob(f"*/{_MANIFEST}"))

    def manifest(self, key: str) -> Manifest:
        """
        :param key: of the entry, or its beginning
        :raises ValueError: if there is none, or it is damaged
        """
        return Manifest.read(self.root / self.resolve(key) / _MANIFEST)

    def resolve(self, key: str) -> str:
        """
        :param key: of an entry, or its beginning
        :return: the whole key
        :raises ValueError: if it is that of no entry, or of several
        """
        found = [entry for entry in self.entries() if key and entry.startswith(key)]
        if len(found) != 1:
            raise ValueError(f"{len(found) or 'No'} cached entries begin with '{key}'; `quantflux data list` shows them.")
        return found[0]

    def verify(self, key: str) -> Manifest:
        """
        :param key: of an entry, or its beginning
        :return: its manifest, if the files are those that it names
        :raises ValueError: if they are not
        """
        key = self.resolve(key)
        with self._locked(key):
            manifest = self.manifest(key)
            self._closes(manifest)
        return manifest

    def clear(self, key: str) -> None:
        """
        :param key: of the entry to delete
        :raises ValueError: if it cannot be deleted
        """
        folder = self.root / key
        with self._locked(key):
            try:
                if (folder / _MANIFEST).is_file():
                    (folder / _MANIFEST).unlink()  # first: without it there is no entry
                if folder.is_dir():
                    shutil.rmtree(folder)
            except OSError as error:
                reason = error.strerror or error
                raise ValueError(f"'{folder}' cannot be deleted ({reason}). Delete the folder by hand.") from error

    def _manifest(self, key: str) -> Manifest | None:
        path = self.root / key / _MANIFEST
        return Manifest.read(path) if path.exists() else None

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        try:
            (self.root / ".locks").mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.root / ".locks" / f"{key}.lock", timeout=LOCK_SECONDS)
            with lock:
                yield
        except Timeout as error:
            raise ValueError(f"Another process has held the cache entry {key} for {LOCK_SECONDS:.0f} s; stop it.") from error

    def _offline(self, key: str, wanted: DataRequest, open_end: bool) -> FetchedPrices:
        manifest = self._manifest(key)
        if manifest is None:
            raise ValueError(
                f"There are no cached prices of {' '.join(wanted.symbols)} from {wanted.start or 'their beginning'} and "
                "--offline forbids to fetch them. Run once without it, or use --prices FILE."
            )
        if not open_end and as_date(manifest.request.end) < as_date(wanted.end):
            raise ValueError(
                f"The cached prices of {' '.join(wanted.symbols)} end on {manifest.request.end} and --offline forbids to "
                f"fetch those up to {wanted.end}. Run once without it, or give --end {manifest.request.end}."
            )
        return self._served(manifest, wanted, "offline, from the cache")

    def _extended(self, source: Source, manifest: Manifest, wanted: DataRequest) -> FetchedPrices:
        """The days since the end of the entry; all of them again if the prices before have changed."""
        old = self._closes(manifest)
        since = old.index[-1] - timedelta(days=OVERLAP_DAYS)
        try:
            news = source.fetch(replace(wanted, start=str(since.date())))
        except NoPricesError:  # of a share that is not traded any more
            news = None
        how = "extended"
        if news is not None and _agree(old, news.closes):
            closes = pd.concat([old[old.index < news.closes.index[0]], news.closes[old.columns]])
            fetched = replace(news, closes=closes)
        else:
            fetched, how = source.fetch(wanted), "fetched again, because the prices have been adjusted since"
        return self._served(self._write(manifest.key, source, wanted, fetched), wanted, how)

    def _served(self, manifest: Manifest, wanted: DataRequest, how: str) -> FetchedPrices:
        closes = self._closes(manifest).loc[: as_date(wanted.end)]
        if not len(closes):
            raise ValueError(f"There are no prices of {' '.join(wanted.symbols)} up to {wanted.end}.")
        day = manifest.retrieved[:10]
        note = f"{how}: prices to {closes.index[-1].date()}, retrieved {day} (entry {manifest.key})"
        return FetchedPrices(closes[list(wanted.symbols)], manifest.source_text, manifest.adjusted, (note, *manifest.notes))

    def _closes(self, manifest: Manifest) -> pd.DataFrame:
        folder = self.root / manifest.key
        for name, digest in manifest.files.items():
            path = folder / name
            content = path.read_bytes() if path.is_file() else b""
            if sha256(content).hexdigest() != digest:
                raise _damaged(folder, f"{name} is not the file that was written")
        return pd.read_parquet(io.BytesIO(content))

    def _write(self, key: str, source: Source, request: DataRequest, fetched: FetchedPrices) -> Manifest:
        closes = fetched.closes[list(request.symbols)].sort_index()
        buffer = io.BytesIO()
        closes.to_parquet(buffer, write_page_checksum=True)
        content, folder = buffer.getvalue(), self.root / key
        digest = sha256(content).hexdigest()
        name = f"closes-{digest[:12]}.parquet"
        manifest = Manifest(
            key=key, source=source.name, request=request, source_text=fetched.source, adjusted=fetched.adjusted,
            notes=fetched.notes, retrieved=datetime.now(UTC).isoformat(timespec="seconds"), versions=_versions(),
            first=str(closes.index[0].date()), last=str(closes.index[-1].date()), files={name: digest},
        )  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / name, content)
        write_whole(folder / _MANIFEST, (json.dumps(asdict(manifest), indent=2) + "\n").encode())
        for path in folder.iterdir():  # of an entry before, or of a process that was killed
            if path.name not in (name, _MANIFEST):
                path.unlink(missing_ok=True)
        return manifest


def entry_key(source: str, request: DataRequest) -> str:
    """
    :param source: name of the source
    :param request: what is asked for; its end does not count, entries grow
    :return: name of the cache entry, the same for the symbols in any order
    """
    content = json.dumps([FORMAT, source, sorted(request.symbols), request.start, request.adjust])
    stem = re.sub(r"[^a-z0-9]", "", source.lower())[:12]
    return f"{stem}-{sha256(content.encode()).hexdigest()[:12]}"


def _agree(old: pd.DataFrame, new: pd.DataFrame) -> bool:
    """Whether the prices on the dates that both have are the same, and there are such dates for every symbol."""
    both = old.index.intersection(new.index)
    if not len(both) or set(old.columns) != set(new.columns):
        return False
    before, after = old.loc[both].to_numpy(), new.loc[both, old.columns].to_numpy()
    same = np.isclose(before, after, rtol=SAME_PRICE, atol=0.0, equal_nan=True)
    return bool(same.all() and (~np.isnan(after)).any(axis=0).all())


def _last_whole_day(end: str | None) -> str:
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date()
    return str(yesterday if end is None else min(as_date(end).date(), yesterday))


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("quantflux_sb3", "yfinance", "pandas", "pyarrow")}


def _damaged(folder: Path, reason: str) -> ValueError:
    return ValueError(
        f"The cached prices '{folder.name}' are damaged and not used ({reason}). "
        f"Delete them with `quantflux data clear {folder.name}`, then fetch them again."
    )
