"""Where Prometheus finds the processes of this machine: a file of its `file_sd_configs` for each.

Several workers of one machine share no port, and their ports are not known before. The file of a
process that was killed remains until another process starts, so Prometheus notices that it is down.
"""

import os
from contextlib import suppress
from pathlib import Path

import msgspec

FOLDER = "targets"  # beside the status files


class Target:
    """The file of this process. Constructing one removes those of processes without a status."""

    def __init__(self, status: Path, name: str, address: str, labels: dict[str, str]) -> None:
        """`status`: the folder of status files. `name`: of this process's, without its suffix.

        Without a folder to write to, there is no file; the status file reports that.
        """
        folder = status / FOLDER
        self._path = folder / f"{name}.json"
        with suppress(OSError):
            folder.mkdir(exist_ok=True)
            for path in folder.glob("*.json"):
                if not (status / path.name).exists():
                    path.unlink(missing_ok=True)
            new = self._path.with_suffix(".new")  # Prometheus reads no file that is half written
            new.write_bytes(msgspec.json.encode([{"targets": [address], "labels": labels}]))
            os.replace(new, self._path)

    def remove(self) -> None:
        """Remove the file, at a normal end."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
