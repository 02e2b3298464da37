"""A compiled dense part as a library: its C interface, called without Python's lock.

Torch's own binding (``AOTIModelPackageLoader.boxed_run``) holds the interpreter for as long as the
code runs, so that a server with any number of threads scores on one core and answers no one
meanwhile; ``ctypes`` lets go of it. The functions are those of AOTInductor's
``torch/csrc/inductor/aoti_runtime/interface.h``, made to be called from C.
"""

import ctypes
import hashlib
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from training.artifact.scorer import MAX_ROWS, ServedDense
from training.resources import num_cores

_INPUTS = ("dense", "pooled_BE")
_Handle = ctypes.c_void_p
_Strings = ctypes.POINTER(ctypes.c_char_p)
_Sizes = ctypes.POINTER(ctypes.c_size_t)
_Handles = ctypes.POINTER(_Handle)


class _Entry(ctypes.Structure):
    """``AOTInductorConstantMapEntry``."""

    _fields_ = (("name", ctypes.c_char_p), ("handle", _Handle))


_PREFIX = "AOTInductorModelContainer"
_ARGUMENTS = {
    "CreateWithDevice": (_Handles, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_char_p),
    "Delete": (_Handle,),
    "GetNumConstants": (_Handle, _Sizes),
    "GetConstantName": (_Handle, ctypes.c_size_t, _Strings),
    "GetConstantOriginalFQN": (_Handle, ctypes.c_size_t, _Strings),
    "UpdateConstantBufferPairs": (
        *(_Handle, ctypes.POINTER(_Entry), ctypes.c_size_t),
        *(ctypes.c_bool, ctypes.c_bool),
    ),
    "Run": (_Handle, _Handles, ctypes.c_size_t, _Handles, ctypes.c_size_t, _Handle, _Handle),
}

_to_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_to_pointer.restype, _to_pointer.argtypes = _Handle, (ctypes.py_object, ctypes.c_char_p)
_to_capsule = ctypes.pythonapi.PyCapsule_New
_to_capsule.restype, _to_capsule.argtypes = ctypes.py_object, (_Handle, ctypes.c_char_p, _Handle)


class LibraryError(RuntimeError):
    """A call of the library failed; it has written to stderr why."""


class Library:
    """A library without weights; any number of instances with weights may run at one time."""

    def __init__(self, path: Path) -> None:
        """Load it.

        Raises:
            OSError: It is no library of this machine.
            AttributeError: It is not AOTInductor's.
        """
        self._library = ctypes.CDLL(str(path))
        for name, arguments in _ARGUMENTS.items():
            getattr(self._library, _PREFIX + name).argtypes = arguments

    def call(self, name: str, *arguments: object) -> None:
        """Call a function; LibraryError where it fails."""
        if getattr(self._library, _PREFIX + name)(*arguments):
            raise LibraryError(f"{name}: failed")


class Instance:
    """A library with weights: from some tensors to one."""

    def __init__(self, library: Library, *, num_runners: int) -> None:
        """Make one without its weights.

        Args:
            library: The code.
            num_runners: Calls at one time; one more waits.
        """
        self._library = library
        self._container = _Handle()
        library.call("CreateWithDevice", ctypes.byref(self._container), num_runners, b"cpu", None)
        # Not at exit: a daemon thread may still be inside.
        weakref.finalize(self, library.call, "Delete", self._container).atexit = False

    def weight_names(self) -> dict[str, str]:
        """The module's name of each weight, by the library's own name."""
        number = ctypes.c_size_t()
        self._library.call("GetNumConstants", self._container, ctypes.byref(number))
        return {
            self._text("GetConstantName", index): self._text("GetConstantOriginalFQN", index)
            for index in range(number.value)
        }

    def take_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Copy these weights, by the library's own names, into the instance.

        It could read them where they are, but then torch keeps a reference to each for ever.
        """
        # The library copies storages and not tensors: each has one of its own.
        copies = [value.detach().clone() for value in weights.values()]
        handles = torch._C._aoti.unsafe_alloc_void_ptrs_from_tensors(copies)
        pairs = (_Entry * len(weights))(
            *(
                _Entry(name.encode(), _to_pointer(handle, None))
                for name, handle in zip(weights, handles, strict=True)
            )
        )
        is_for_later, is_checked = False, True
        try:
            self._library.call(
                "UpdateConstantBufferPairs",
                *(self._container, pairs, len(weights), is_for_later, is_checked),
            )
        finally:
            torch._C._aoti.alloc_tensors_by_stealing_from_void_ptrs(handles)

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """The output for contiguous inputs; other Python threads go on meanwhile."""
        handles = torch._C._aoti.unsafe_alloc_void_ptrs_from_tensors(list(inputs))
        # The library takes the handles of its inputs, and leaves that of its output to the caller.
        taken = (_Handle * len(handles))(*(_to_pointer(handle, None) for handle in handles))
        made = (_Handle * 1)()
        self._library.call("Run", self._container, taken, len(handles), made, 1, None, None)
        # Torch's function for a single one does not take it, and it would stay for ever.
        outputs = [_to_capsule(made[0], None, None)]
        (output,) = torch._C._aoti.alloc_tensors_by_stealing_from_void_ptrs(outputs)
        return output

    def _text(self, function: str, index: int) -> str:
        found = ctypes.c_char_p()
        self._library.call(function, self._container, index, ctypes.byref(found))
        return (found.value or b"").decode()


class NativeError(ValueError):
    """Native code cannot be made or must not be used; the text says why."""


class NativeDense:
    """A dense part in native code, with the weights of one artifact."""

    def __init__(self, library: Path, module: ServedDense) -> None:
        """Load verified code and give it a copy of a module's weights.

        Raises:
            NativeError: The code does not load, or asks for other weights.
        """
        try:
            self._code = Instance(_loaded(library), num_runners=num_runners())
            weights = {**dict(module.named_parameters()), **dict(module.named_buffers())}
            wanted = self._code.weight_names()
            for name, value in weights.items():
                if value.is_floating_point() and name not in wanted.values():
                    raise NativeError(f"{library}: {name} is part of the code; a weight of its own")
            self._code.take_weights({own: weights[name] for own, name in wanted.items()})
        except (OSError, AttributeError, LibraryError, KeyError) as error:
            raise NativeError(f"{library}: does not load: {error}") from error
        tokens = module.interaction.tokens
        self._shapes = (tokens.num_dense, sum(tokens.widths))

    def __call__(self, dense: Tensor, pooled_BE: Tensor) -> Tensor:
        """What ``ServedDense`` takes and gives."""
        # The code checks nothing: with other tensors it would read beyond the memory.
        for name, given, width in zip(_INPUTS, (dense, pooled_BE), self._shapes, strict=True):
            _check_input(name, given, width)
        if not 1 <= len(dense) == len(pooled_BE) <= MAX_ROWS:
            raise ValueError(
                f"rows: {len(dense)} and {len(pooled_BE)}; as many of both, 1 to {MAX_ROWS}"
            )
        if len(dense) == 1:  # the code is for two rows and more
            return self(dense.expand(2, -1), pooled_BE.expand(2, -1))[:1]
        return self._code.run([dense.contiguous(), pooled_BE.contiguous()])


def _check_input(name: str, given: Tensor, width: int) -> None:
    """ValueError unless the code can read it: it takes the numbers to be as they were compiled."""
    is_readable = given.dtype is torch.float32 and given.device.type == "cpu"
    if not is_readable or given.ndim != 2 or given.shape[1] != width:
        what = f"{given.dtype} {tuple(given.shape)} on {given.device}"
        raise ValueError(f"{name}: {what}; torch.float32 (rows, {width}) on cpu")


def num_runners() -> int:
    """Concurrent calls of one dense part: a batch on each core, a lone request, and a shadow's."""
    return num_cores() + 2


_LOADED: dict[str, Library] = {}
"""By hash; a library is never unloaded, so to load each day's anew would leak it."""


def _loaded(path: Path) -> Library:
    key = sha256(path)
    if key not in _LOADED:
        _LOADED[key] = Library(path)
    return _LOADED[key]


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
