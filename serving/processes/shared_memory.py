"""Objects in memory that processes share: written once, sealed, and mapped read only.

The memory has no name (``memfd_create``): a process that is killed leaves nothing behind, and the
size of ``/dev/shm``, which is 64 MB in most containers, is no limit. Linux only.
"""

import fcntl
import mmap
import os
import pickle
import struct
import weakref

_ALIGNMENT = 64
"""Bytes; where each array begins."""
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_SIZE = struct.Struct("<q")
_MOMENT = struct.Struct("<d")


class SharedObject:
    """Sealed memory with an object in it, for as long as this or a mapping of it exists."""

    def __init__(self, value: object) -> None:
        """Write it: its arrays lie in the memory as they are, all else is pickled."""
        arrays: list[pickle.PickleBuffer] = []
        head = pickle.dumps(value, protocol=5, buffer_callback=arrays.append)
        contents: list[bytes | memoryview] = [head, *(one.raw() for one in arrays)]
        sizes = list(map(len, contents))
        self.descriptor = os.memfd_create("ranking", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        weakref.finalize(self, os.close, self.descriptor)
        with open(self.descriptor, "wb", closefd=False) as file:
            file.write(b"".join(map(_SIZE.pack, [len(sizes), *sizes])))
            for content in contents:
                file.seek(_aligned(file.tell()))
                file.write(content)
            file.truncate(_aligned(file.tell()))
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, _SEALS)


def mapped(descriptor: int) -> object:
    """The object of another process's ``SharedObject``; its arrays are that memory itself.

    The memory is mapped for as long as one of the arrays exists. The descriptor may be closed.
    """
    memory = memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
    (count,) = _SIZE.unpack_from(memory)
    sizes = [_SIZE.unpack_from(memory, (1 + number) * _SIZE.size)[0] for number in range(count)]
    start, parts = (1 + count) * _SIZE.size, []
    for size in sizes:
        start = _aligned(start)
        parts.append(memory[start : start + size])
        start += size
    head, *arrays = parts
    return pickle.loads(head, buffers=arrays)


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


class SharedMoment:
    """A moment of ``time.monotonic``, which all processes of a machine have in common.

    One process writes it, others read it at any time.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        """Args: the descriptor of one that another process writes; None: a new one."""
        is_ours = descriptor is None
        if descriptor is None:
            descriptor = os.memfd_create("ranking-moment", os.MFD_CLOEXEC)
            os.truncate(descriptor, mmap.PAGESIZE)
        self.descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)
        access = mmap.ACCESS_WRITE if is_ours else mmap.ACCESS_READ
        # Aligned numbers of eight bytes are read and written as one.
        self._number = memoryview(mmap.mmap(descriptor, 0, access=access)).cast("d")
        if is_ours:
            self.set(float("-inf"))

    def set(self, moment: float) -> None:
        """Let others read this from now on."""
        self._number[0] = moment

    def get(self) -> float:
        """The moment of the last ``set``; minus infinity before the first."""
        return self._number[0]
