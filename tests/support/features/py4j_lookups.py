"""What py4j finds of the JVM by a name, remembered: it asks the JVM at each use of a name.

Two calls of five that a test makes are such questions: whether ``org.apache.spark.sql.functions``
is a class, and whether ``col`` is a method of it.
"""

import functools
from collections.abc import Callable

from py4j.java_gateway import JavaClass, JavaMember, JavaPackage, JVMView


def remember() -> None:
    """Ask for each package, class and static method once; fields and errors are asked for anew.

    So is what may be a class that is not there yet: py4j takes every unknown name for a package.
    """
    for kind, name_of in ((JVMView, "_id"), (JavaPackage, "_fqn"), (JavaClass, "_fqn")):
        kind.__getattr__ = _remembered(kind.__getattr__, name_of)


def _remembered(
    ask: Callable[[object, str], object], name_of: str
) -> Callable[[object, str], object]:
    found: dict[tuple[object, str, str], object] = {}

    @functools.wraps(ask)
    def answer(self: object, name: str) -> object:
        known = vars(self)
        if "_gateway_client" not in known or name_of not in known:
            return ask(self, name)
        key = (known["_gateway_client"], known[name_of], name)
        if key not in found:
            value = ask(self, name)
            is_package = isinstance(value, JavaPackage) and name.islower()
            if not is_package and not isinstance(value, JavaClass | JavaMember):
                return value
            found[key] = value
        return found[key]

    return answer
