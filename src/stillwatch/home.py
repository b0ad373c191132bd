"""home: the state folder of an installation, where its root key, its journal and its lineages lie."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from stillwatch.journal import Journal
from stillwatch.keys import RootKey

HOME_VARIABLE = "STILLWATCH_HOME"


@dataclass(frozen=True, slots=True)
class Home:
    """One installation.

    Attributes:
        folder: `STILLWATCH_HOME`, else a folder of the XDG data folder.
        environ: the environment it was found in; it may hold the root key.
    """

    folder: Path
    environ: Mapping[str, str]

    @classmethod
    def of(cls, environ: Mapping[str, str] | None = None) -> Self:
        """The installation an environment names; this process's by default.

        >>> Home.of({"XDG_DATA_HOME": "/data"}).folder.as_posix()
        '/data/stillwatch'
        """
        known = os.environ if environ is None else environ
        if known.get(HOME_VARIABLE):
            return cls(Path(known[HOME_VARIABLE]).expanduser(), known)
        # The XDG specification has relative paths ignored.
        data = Path(known.get("XDG_DATA_HOME") or "")
        shared = data if data.is_absolute() else Path(known.get("HOME") or Path.home()) / ".local/share"
        return cls(shared / "stillwatch", known)

    def root_key(self, key_file: Path | None = None) -> RootKey:
        """The root key, made on the first run; `RootKey.load` says from where, and what it raises."""
        return RootKey.load(self.folder, key_file=key_file, environ=self.environ)

    @property
    def journal(self) -> Journal:
        """What was decided, revealed and committed to."""
        return Journal(self.folder / "journal")
