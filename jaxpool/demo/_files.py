"""What the demo writes: all of it or nothing."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path


class DemoError(Exception):
    """A mistake of the user's that one line can explain."""


@contextlib.contextmanager
def output_folder(folder: Path, names: tuple[str, ...]) -> Iterator[None]:
    """Makes `folder`, sure that `names` can be written there.

    If the body fails, the folders made here go again.
    """
    made: list[Path] = []
    try:
        try:
            made += [p for p in (folder, *folder.parents) if not p.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            # Permissions do not tell about a read-only disk; writing does.
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise DemoError(_cannot_write(folder, error)) from error
        for name in names:
            if (folder / name).is_dir():
                raise DemoError(f"--out: {str(folder / name)!r} is a folder")
        yield
    except BaseException:
        for path in made:
            with contextlib.suppress(OSError):  # not empty, or never made
                path.rmdir()
        raise


def write_all(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Writes every file beside its place, then moves them all into place."""
    written: dict[str, str] = {}
    try:
        for name, content in contents.items():
            # Opened as any new file is, so that the user's umask holds.
            written[name] = str(folder / f".{name}.{os.getpid()}.tmp")
            Path(written[name]).write_bytes(content)
        for name, temporary in written.items():
            os.replace(temporary, folder / name)
    except OSError as error:
        raise DemoError(_cannot_write(folder, error)) from error
    finally:
        for temporary in written.values():
            Path(temporary).unlink(missing_ok=True)


def _cannot_write(folder: Path, error: OSError) -> str:
    return f"--out: cannot write to {str(folder)!r}: {error.strerror or error}"
