"""A Secret as files: read whole and of one version, whoever changes it meanwhile.

A kubelet writes a new version into a folder of its own and swaps the link `..data`, so a file's times tell nothing; what it
says does. Other ways to bring Secrets into a folder (an agent, a person) have no such link, and their files are read as they are.
"""

from __future__ import annotations

from pathlib import Path

from k2.model.errors import UserError

_VERSION = "..data"
_TRIES = 20


def mounted_secret(folder: Path, variable: str) -> dict[str, str]:
    """Key → value of a mounted Secret, without the blanks and line ends around a value.

    Args:
        folder: where it is mounted.
        variable: the setting that names the folder, for messages.

    Raises:
        UserError: there is no such folder, or its files cannot be read.
    """
    for _ in range(_TRIES):
        version = _version(folder)
        try:
            found = {file.name: text for file in sorted(version.iterdir()) if (text := _text(file)) is not None}
        except FileNotFoundError:
            if not folder.exists():
                break
            continue  # the version was swapped for another one, and is being taken away
        except (OSError, UnicodeDecodeError) as error:
            raise _unusable(folder, variable, str(error)) from error
        # Of one version: the user of the old one with the password of the new one would be nobody.
        if _version(folder) == version:
            return found
    raise _unusable(folder, variable, "files that come and go" if folder.exists() else "no such directory")


def _version(folder: Path) -> Path:
    """Where the files lie that count now."""
    link = folder / _VERSION
    return link.resolve() if link.exists() else folder


def _text(file: Path) -> str | None:
    """What a file says; None for a directory and for what is hidden."""
    if file.name.startswith("."):
        return None
    try:
        return file.read_text().strip()
    except IsADirectoryError:
        return None


def mounted_login(folder: Path, variable: str) -> tuple[str, str]:
    """User and password of a mounted Secret with the keys `username` and `password`.

    Raises:
        UserError: one of the two is not there.
    """
    held = mounted_secret(folder, variable)
    if not (held.get("username") and held.get("password")):
        raise UserError(
            f"{folder} ({variable}) has no login",
            found=", ".join(sorted(held)) or "no file",
            expected="files `username` and `password`, neither of them empty",
            remedy="Give the Secret both keys",
        )
    return held["username"], held["password"]


def _unusable(folder: Path, variable: str, found: str) -> UserError:
    return UserError(
        f"{variable} cannot be read",
        found=f"{folder}: {found}",
        expected="a directory with a file for each key of the Secret",
        remedy="Mount the Secret there, readable by the user that K2 runs as",
    )
