"""Files of torch's distributed checkpoints at a place, hashed as they are written."""

import contextlib
import hashlib
import io
import os
import uuid
from collections.abc import Iterator, Mapping
from typing import IO, Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.filesystem import (
    FileSystemBase,
    FileSystemReader,
    FileSystemWriter,
)

from features.places import Place, is_local, uri
from training.distributed.divergence import local_tensors
from training.distributed.hosts import Waiting
from training.distributed.process_group import agreed


def tensors_folder() -> str:
    """A new name for the folder of a checkpoint's tensors, the same on every rank."""
    return agreed(lambda: f"tensors-{uuid.uuid4().hex[:12]}")


def saving_group(state: Mapping[str, Any]) -> dist.ProcessGroup:
    """A group of all ranks for the save of a state, who wait for the one that writes most.

    Every rank calls this. The time-out of what they do together is
    RANKING_LOST_SECONDS + bytes of the rank that has most / RANKING_SAVE_RATE.
    """
    num_bytes = torch.tensor(sum(value.nbytes for _, value in local_tensors(state)))
    dist.all_reduce(num_bytes, op=dist.ReduceOp.MAX)
    timeout = Waiting.from_environment().while_saving(int(num_bytes))
    group: dist.ProcessGroup = dist.new_group(backend="gloo", timeout=timeout)
    return group


class TensorsWriter(FileSystemWriter):
    """Writes one checkpoint's tensors into a folder that is new."""

    def __init__(self, folder: Place) -> None:
        """Name the folder; the first write makes it."""
        # Without a file descriptor, torch would sync every disk of the machine.
        super().__init__("", sync_files=is_local(folder))
        self.fs: Any = _Files()
        self.path: Any = folder

    @property
    def checkpoint_id(self) -> str:
        """The folder, as the metadata has it."""
        return uri(self.path)

    def hashes(self, group: dist.ProcessGroup | None) -> dict[str, str]:
        """SHA-256 of each file that any rank wrote; every rank of the group calls this."""
        by_rank: list[dict[str, str]] = [{}] * dist.get_world_size(group)
        dist.all_gather_object(by_rank, self.fs.hashes, group=group)
        return {name: value for found in by_rank for name, value in sorted(found.items())}


class TensorsReader(FileSystemReader):
    """Reads tensors from a folder."""

    def __init__(self, folder: Place) -> None:
        """Name the folder."""
        super().__init__("")
        self.fs: Any = _Files()
        self.path: Any = folder

    def _slice_file(self, file: Any, sinfo: Any) -> IO[bytes]:
        if is_local(self.path):
            return super()._slice_file(file, sinfo)
        # A tensor is opened from its end: that would be several requests for each.
        file.seek(sinfo.offset)
        return io.BytesIO(file.read(sinfo.length))


class _Files(FileSystemBase):
    """What torch asks of a file system, of places."""

    def __init__(self) -> None:
        self.hashes: dict[str, str] = {}
        """SHA-256 of each file that was written, by its name."""

    @contextlib.contextmanager
    def create_stream(self, path: Any, mode: str) -> Iterator[Any]:
        with path.open(mode) as file:
            if mode == "rb":
                yield file
                return
            hashed = _HashedFile(file)
            yield hashed
        self.hashes[path.name] = hashed.digest.hexdigest()

    def concat_path(self, path: Any, suffix: str) -> Any:
        return path / suffix

    def init_path(self, path: Any) -> Any:
        return path

    def rename(self, path: Any, new_path: Any) -> None:
        path.rename(new_path)
        self.hashes[new_path.name] = self.hashes.pop(path.name)

    def mkdir(self, path: Any) -> None:
        path.mkdir(parents=True, exist_ok=True)

    def exists(self, path: Any) -> bool:
        return bool(path.exists())

    def rm_file(self, path: Any) -> None:
        path.unlink()

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        return isinstance(checkpoint_id, Place)


class _HashedFile:
    """A file that hashes what is written to it, from its beginning to its end."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, content: Any) -> int:
        self.digest.update(content)
        return int(self._file.write(content))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
