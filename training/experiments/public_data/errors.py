"""What a reader says of a file that is not in its format."""

from pathlib import Path


class FormatError(ValueError):
    """A line of a file is not what the format has there."""

    def __init__(self, path: Path, *, line: int, column: str | int, found: str, expected: str):
        """Args: where (1-based line), what stands there, and what should."""
        where = f"{path.name}: line {line}, column {column}"
        super().__init__(f"{where}: {found[:80]!r}; expected {expected}")


def require_files(folder: Path, names: tuple[str, ...]) -> list[Path]:
    """The paths of files that a data set must have; ValueError names those that are missing."""
    paths = [folder / name for name in names]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise ValueError(
            f"--data {folder}: no {', '.join(missing)}; the data set is {', '.join(names)}"
        )
    return paths
