"""Which modules of the product run code while something happens, and who calls back whom."""

import collections
import contextlib
import dis
import inspect
import threading
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("features", "training", "serving")
_RESUME, _YIELD = dis.opmap["RESUME"], dis.opmap["YIELD_VALUE"]


class PathRecorder:
    """The calls between modules in the threads that start inside ``watching_new_threads``.

    A module is entered when another one calls into it, of ours or of a library; the standard
    library is looked through. It is called back when it is entered while one of its functions or
    coroutines has not ended, in whichever thread.
    """

    def __init__(self) -> None:
        self.is_on = False
        self.entered: dict[str, int] = {}
        """How often each module was entered, in the order of first entry."""
        self.called_back: list[str] = []
        """``caller -> module.function``."""
        self._open: collections.Counter[str] = collections.Counter()
        self._names: dict[CodeType, str | None] = {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def watching_new_threads(self) -> Iterator[None]:
        threading.setprofile(self._profile)
        try:
            yield
        finally:
            threading.setprofile(None)  # type: ignore[arg-type]

    def of(self, package: str) -> list[str]:
        """The modules of one package, in the order of first entry."""
        return [module for module in self.entered if module.startswith(f"{package}.")]

    def report(self) -> str:
        lines = [f"{number:3} x {module}" for module, number in self.entered.items()]
        return "\n".join(["", *lines, "called back:", *self.called_back])

    def _profile(self, frame: FrameType, event: str, argument: Any) -> None:
        if not self.is_on or event not in {"call", "return"}:
            return
        module = self._module_of(frame)
        if module is None or frame.f_code.co_flags & inspect.CO_GENERATOR:
            return
        with self._lock:
            if event == "return":
                if _instruction(frame) != _YIELD:
                    self._open[module] -= 1
            elif not _is_resumed(frame):
                self._enter(module, frame)
                self._open[module] += 1

    def _enter(self, module: str, frame: FrameType) -> None:
        caller = self._caller_of(frame)
        if caller == module:
            return
        self.entered[module] = self.entered.get(module, 0) + 1
        if self._open[module] > 0:
            self.called_back.append(f"{caller} -> {module}.{frame.f_code.co_qualname}")

    def _caller_of(self, frame: FrameType) -> str:
        """The module of ours or the library that made a call; a thread's or a task's own begin."""
        above = frame.f_back
        while above is not None:
            if module := self._module_of(above):
                return module
            path = Path(above.f_code.co_filename)
            if path.match("asyncio/events.py"):
                break
            if "site-packages" in path.parts:
                return path.parts[path.parts.index("site-packages") + 1]
            above = above.f_back
        return "begin"

    def _module_of(self, frame: FrameType) -> str | None:
        code = frame.f_code
        if code not in self._names:
            path = Path(code.co_filename)
            is_ours = path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in PACKAGES
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts) if is_ours else None
            self._names[code] = name
        return self._names[code]


def _instruction(frame: FrameType) -> int:
    return frame.f_code.co_code[frame.f_lasti]


def _is_resumed(frame: FrameType) -> bool:
    """Whether a coroutine goes on; the operand of its RESUME says so, 0 being its beginning."""
    code, place = frame.f_code.co_code, frame.f_lasti
    return code[place] == _RESUME and code[place + 1] & 3 != 0
