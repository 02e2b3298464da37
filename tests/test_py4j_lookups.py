"""What the tests remember of the JVM: what is there is asked for once, what may come each time."""

from types import SimpleNamespace

import pytest
from py4j.java_gateway import JavaClass, JavaPackage, JVMView
from support.features import py4j_lookups

CLASS, ANY_PACKAGE, METHOD = "ycorg.made.functions", "yp", "ym"


class Jvm:
    """One class with a method; notes the names that it is asked for."""

    converters = None
    gateway_property = SimpleNamespace(pool={})

    def __init__(self, names):
        self.names = names

    def send_command(self, command):
        _, kind, first, second, *_ = command.split("\n")
        self.names.append(second if kind == "m" else first)
        return {"col": METHOD, "org.made.functions": CLASS}.get(self.names[-1], ANY_PACKAGE)

    def view(self):
        return JVMView(self, "made", id="rj")


@pytest.fixture
def names(monkeypatch):
    """The names that any JVM is asked for."""
    for kind in (JVMView, JavaPackage, JavaClass):
        monkeypatch.setattr(kind, "__getattr__", kind.__getattr__)
    py4j_lookups.remember()
    return []


def test_a_class_its_method_and_a_package_are_asked_for_once(names):
    jvm = Jvm(names).view()
    for _ in range(2):
        functions = getattr(jvm, "org.made.functions")
        assert (functions._fqn, functions.col.name) == ("org.made.functions", "col")
        assert jvm.org._fqn == "org"
    assert names == ["org.made.functions", "col", "org"]


def test_a_name_that_may_be_a_class_that_is_loaded_later_is_asked_for_each_time(names):
    jvm = Jvm(names).view()
    assert jvm.Late._fqn == jvm.Late._fqn == "Late"
    assert names == ["Late", "Late"]


def test_each_jvm_is_asked(names):
    for _ in range(2):
        assert getattr(Jvm(names).view(), "org.made.functions")
    assert len(names) == 2
