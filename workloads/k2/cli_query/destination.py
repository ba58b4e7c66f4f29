"""Where a command's rows go: to stdout, or to a file that is there as a whole or not at all.

Who writes rows asks here. The file is a command's for as long as it runs (`--out`, added by `with_out`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from k2.cli_query.options import with_options
from k2.model.errors import UserError, WorldError

_PANEL = "Into a file"
_FORMS = {
    ".csv": "csv",
    ".json": "json",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
}
_OPTIONS: dict[str, Any] = {
    "out": Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Into this file, which is there once all rows are in it; its name says how (.parquet, .csv, .ndjson, "
            ".json, .arrow), or --output.",
            rich_help_panel=_PANEL,
            show_default=False,
        ),
    ],
    "force": Annotated[
        bool, typer.Option("--force", help="With --out: in place of a file that is there.", rich_help_panel=_PANEL)
    ],
}

_file: ContextVar[BinaryIO | None] = ContextVar("file", default=None)


def is_terminal() -> bool:
    """Whether rows are written to a terminal."""
    return _file.get() is None and sys.stdout.isatty()


def write(data: bytes | memoryview) -> None:
    """Rows to where they go; to stdout at once: who reads a pipe does not wait for a buffer to be full."""
    file = _file.get()
    if file is not None:
        file.write(data)
        return
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # `| head` has read enough: that is a good end. The interpreter must not try to flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None


@contextmanager
def rows_into(path: Path, *, replace: bool, kept_when_interrupted: bool = False) -> Generator[None]:
    """Rows that are written in the block go into this file. It has its name once the block has come to its end.

    Args:
        path: the file.
        replace: whether it may take the place of another one.
        kept_when_interrupted: what is written by Ctrl-C is whole as it is, and kept.

    Raises:
        UserError: there is such a file already, or there cannot be one.
        WorldError: it cannot be written any more (a disk that is full).
    """
    if path.is_dir():
        raise UserError("--out is a folder", found=str(path), expected="the name of a file")
    if path.exists() and not replace:
        raise _taken(path)
    import tempfile  # a command that prints starts without it

    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
    except OSError as error:
        raise UserError(
            "--out cannot be written", found=str(error), expected="a name in a folder that is there"
        ) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            token = _file.set(file)
            try:
                yield
            except KeyboardInterrupt:
                if kept_when_interrupted:
                    _finish(file, Path(temporary), path, replace=replace)
                raise
            finally:
                _file.reset(token)
            _finish(file, Path(temporary), path, replace=replace)
    except OSError as error:
        raise WorldError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def _finish(file: BinaryIO, temporary: Path, path: Path, *, replace: bool) -> None:
    """Give the file its name, once what is in it will outlive a crash, and say so."""
    size = file.tell()
    file.flush()
    os.fsync(file.fileno())
    mask = os.umask(0)
    os.umask(mask)
    temporary.chmod(0o666 & ~mask)  # a temporary file is for its owner alone
    if replace:
        temporary.replace(path)
    else:
        _name(temporary, path)
    print(f"{path}: {size:,} bytes", file=sys.stderr)


def _name(temporary: Path, path: Path) -> None:
    try:
        path.hardlink_to(temporary)  # unlike a rename it never takes the place of a file that came meanwhile
    except FileExistsError:
        raise _taken(path) from None
    except OSError:  # a file system without links
        temporary.replace(path)


def _taken(path: Path) -> UserError:
    return UserError(
        "There is a file of that name", found=str(path), expected="another name", remedy="Replace it with --force"
    )


def with_out(*, kept_when_interrupted: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add `--out` and `--force` to a command that has `output`, how rows are written."""

    def added(command: Callable[..., None]) -> Callable[..., None]:
        def run(**given: Any) -> None:
            out, force = given.pop("out"), given.pop("force")
            if out is None:
                if force:
                    raise UserError("--force is of a file", expected="--out FILE with it")
                command(**given)
                return
            given["output"] = form_of(out, given["output"])
            with rows_into(out, replace=force, kept_when_interrupted=kept_when_interrupted):
                command(**given)

        return with_options(command, run, _OPTIONS, {"force": False})

    return added


def form_of(path: Path, output: StrEnum) -> StrEnum:
    """How rows are written into a file of that name, where nobody said it; a `UserError` where it does not tell.

    Args:
        path: the file.
        output: what was said, or the default: the first of its kind.
    """
    forms = type(output)
    if output is not next(iter(forms)):
        return output
    named = _FORMS.get(path.suffix.lower(), "")
    if named in set(forms):
        return forms(named)
    raise UserError(
        "The file's name does not say how rows are written",
        found=path.name,
        expected=f"a name that ends in {', '.join(end for end, form in _FORMS.items() if form in set(forms))}",
        remedy="Or say it with --output",
    )
