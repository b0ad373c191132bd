"""named: the files that a policy names, read once to see that they can be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stillwatch.errors import InputError, PolicyError
from stillwatch.policy.geo import Countries
from stillwatch.policy.model import Policy
from stillwatch.policy.screening import Listed

MAX_LIST_BYTES = 256 << 20

_DO = "Put the file there, or name another; paths begin at the policy's folder."


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that was read."""

    field: str
    """The table and key that name it, such as `[screening] lists`."""
    path: Path
    holds: str


def read_named_files(policy: Policy, file: Path) -> list[NamedFile]:
    """Read every file that the policy in `file` names; paths begin at its folder.

    Raises:
        PolicyError: one of them cannot be read or holds nothing; the message names the key and the path.
        ExtraMissing: the policy names a database of networks, and nothing here reads it.
    """
    found = []
    if policy.mmdb is not None:
        path = file.parent / policy.mmdb
        open_countries(path, file)
        found.append(NamedFile("[networks] mmdb", path, "a database of networks"))
    if policy.screening is not None:
        listed = Listed()
        for name in policy.screening.lists:
            before = len(listed.names)
            add_list(listed, name, file)
            n = len(listed.names) - before
            found.append(NamedFile("[screening] lists", file.parent / name, f"{n:,} name{'' if n == 1 else 's'}"))
    return found


def open_countries(path: Path, file: Path) -> Countries:
    """The database of networks that the policy in `file` names. Raises as the above."""
    try:
        return Countries.open(path)
    except PolicyError as error:
        raise PolicyError(
            f"{file}: [networks] mmdb names {path}, which cannot be read", got=error.got,
            expected="a file in the MaxMind DB format", do=_DO,
        ) from error  # fmt: skip


def add_list(listed: Listed, name: str, file: Path) -> None:
    """Take in a list of restricted parties that the policy in `file` names. Raises as the above."""
    path = file.parent / name
    where = f"{file}: [screening] lists names {path}, which"
    before = len(listed.names)
    try:
        with path.open("rb") as opened:
            content = opened.read(MAX_LIST_BYTES + 1)
        if len(content) > MAX_LIST_BYTES:
            raise PolicyError(f"{where} is too large", expected=f"at most {MAX_LIST_BYTES:,} bytes", do=_DO)
        listed.add(content.decode("utf-8-sig").splitlines(), name)
    except OSError as error:
        raise PolicyError(f"{where} cannot be read", got=error.strerror, expected="one name a line", do=_DO) from error
    except UnicodeDecodeError as error:
        got = f"byte {error.start}: {error.reason}"
        raise PolicyError(f"{where} is not UTF-8 text", got=got, expected="one name a line", do=_DO) from error
    except InputError as error:
        raise PolicyError(f"{where} is too long", expected=error.expected, do=_DO) from error
    if len(listed.names) == before:
        raise PolicyError(f"{where} holds no name", expected="one name a line", do="Bring the list, or leave it out.")
