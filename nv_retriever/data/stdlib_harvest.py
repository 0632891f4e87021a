"""A script for a fresh interpreter: prints the documented objects of the standard library as JSON lines.

It is run as `python -S -s -P -B stdlib_harvest.py` in a process of its own, so that what the caller has imported or patched
changes nothing and what imports leave behind goes with the process. Needs nothing but the standard library.

Each line: {"name", "module", "kind", "signature", "doc"}. An object that several names reach is printed once, under
the most public, then shortest one; what is another object stays another line, however alike its text.
"""

from __future__ import annotations

import importlib
import inspect
import io
import json
import os
import pkgutil
import re
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

SKIPPED = frozenset(
    [
        *("antigravity", "this", "idlelib", "test", "turtledemo", "lib2to3", "ensurepip"),
        *("__hello__", "__phello__", "pydoc_data", "xxlimited", "xxsubtype"),
    ]
)
"""Modules with side effects (a browser, printing), tests, and copies of other projects."""
_SKIPPED_PARTS = frozenset(["__main__", "test", "tests", "idle_test"])
_PUBLIC = {"posix": "os", "nt": "os"}
"""Modules whose objects are documented under another one's name."""
_LITERALS = (bool, int, float, str, bytes, tuple, type(None))
"""Types of defaults that print the same everywhere (their subclasses, such as enums, need not)."""
_ADDRESS = re.compile(r"(?: object)? at 0x[0-9a-fA-F]+")


def modules() -> Iterator[tuple[str, ModuleType]]:
    """Import and yield the modules of the standard library by the names they are imported by, sorted.

    Those that cannot be imported here are left out.
    """
    for name in sorted(sys.stdlib_module_names):
        if name not in SKIPPED and not name.startswith(("_test", "_xx")):
            yield from _walk(name)


def _walk(name: str) -> Iterator[tuple[str, ModuleType]]:
    try:
        module = importlib.import_module(name)
    except BaseException:  # whatever a module for another platform raises, SystemExit included
        return
    yield name, module
    found = {info.name for info in pkgutil.iter_modules(getattr(module, "__path__", []))}
    for child in sorted(found):
        if child not in _SKIPPED_PARTS and not child.startswith("_test"):
            yield from _walk(f"{name}.{child}")


def members(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Yield (qualified name within the module, object) for the module's functions, classes and their own attributes."""
    for name, value in sorted(vars(module).items()):
        if inspect.isclass(value):
            yield from _class_members(name, value, depth=0)
        elif inspect.isroutine(value):
            yield name, value


def _class_members(name: str, cls: type, depth: int) -> Iterator[tuple[str, Any]]:
    yield name, cls
    for attribute, value in sorted(vars(cls).items()):
        plain = value.__func__ if isinstance(value, staticmethod | classmethod) else value
        if inspect.isclass(plain) and depth == 0 and getattr(plain, "__qualname__", "") == f"{cls.__qualname__}.{attribute}":
            yield from _class_members(f"{name}.{attribute}", plain, depth + 1)
        elif (inspect.isroutine(plain) or inspect.isdatadescriptor(plain)) and not inspect.isclass(plain):
            yield f"{name}.{attribute}", plain


def identity(value: Any) -> int:
    """Return what is equal for two names of one object: a bound method is its function."""
    function = getattr(value, "__func__", value)
    return id(function)


def home(value: Any) -> str:
    """Return the module that an object says it belongs to, or ""."""
    owner = value
    if isinstance(value, property):
        owner = value.fget
    owner = getattr(owner, "__objclass__", owner)
    module = getattr(owner, "__module__", None)
    if module is None and getattr(value, "__self__", None) is not None and not isinstance(value.__self__, ModuleType):
        owner = value.__self__
        module = getattr(owner if inspect.isclass(owner) else type(owner), "__module__", None)
    return module if isinstance(module, str) else ""


def rank(module: str, name: str, home_module: str) -> tuple[bool, bool, int, int, str]:
    """Sort key of an object's names: public ones first, then those of its own package, then short ones."""
    parts = [*module.split("."), *name.split(".")]
    private = any(part.startswith("_") and not part.endswith("__") for part in parts)
    package = home_module.split(".")[0]
    foreign = parts[0].lstrip("_") != _PUBLIC.get(package, package).lstrip("_")
    full = f"{module}.{name}"
    return private, foreign, len(parts), len(full), full


def signature(value: Any) -> str:
    """Return the call signature, "" where there is none; defaults that are not literals are written as `...`."""
    try:
        found = inspect.signature(value)
    except Exception:
        return ""
    parameters = []
    for parameter in found.parameters.values():
        default = parameter.default
        machine = isinstance(default, str) and os.path.isfile(default)  # noqa: PTH113 (any text may come here)
        if default is not parameter.empty and (machine or type(default) not in _LITERALS):
            parameter = parameter.replace(default=Ellipsis)
        parameters.append(parameter.replace(annotation=inspect.Parameter.empty))
    text = str(found.replace(parameters=parameters, return_annotation=inspect.Signature.empty))
    return _ADDRESS.sub("", text).replace("=Ellipsis", "=...")


def kind(value: Any) -> str:
    """Return module, class, exception, function, method or property."""
    if isinstance(value, ModuleType):
        return "module"
    if inspect.isclass(value):
        return "exception" if issubclass(value, BaseException) else "class"
    if inspect.isdatadescriptor(value):
        return "property"
    return "function"


def documentation(value: Any) -> str:
    """Return the object's own docstring, not an inherited one, without indentation and memory addresses; "" for none."""
    doc = getattr(value, "__doc__", None)
    if not isinstance(doc, str) or isinstance(value, type(object.__init__)):  # slot wrappers repeat one text for all types
        return ""
    if not inspect.isclass(value) and not isinstance(value, ModuleType) and doc is getattr(type(value), "__doc__", None):
        return ""
    return _ADDRESS.sub("", inspect.cleandoc(doc)).strip()


def harvest() -> Iterator[dict[str, str]]:
    """Yield one record for each documented object, sorted by name."""
    found: dict[int, tuple[tuple[bool, bool, int, int, str], str, str, Any]] = {}
    records = []
    for module_name, module in list(modules()):
        doc = documentation(module)
        if doc:
            records.append({"name": module_name, "module": module_name, "kind": "module", "signature": "", "doc": doc})
        for name, value in members(module):
            key = rank(module_name, name, home(value))
            known = found.get(identity(value))
            if known is None or key < known[0]:
                found[identity(value)] = (key, module_name, name, value)
    for _, module_name, name, value in found.values():
        doc = documentation(value)
        if doc:
            what = "method" if "." in name and kind(value) == "function" else kind(value)
            full = name if module_name == "builtins" else f"{module_name}.{name}"
            records.append({"name": full, "module": module_name, "kind": what, "signature": signature(value), "doc": doc})
    yield from sorted(records, key=lambda record: (record["name"], record["kind"], record["doc"]))


def main() -> None:
    """Print the records; whatever the imported modules print is lost."""
    out, sys.stdout = sys.stdout, io.StringIO()
    warnings.simplefilter("ignore")
    for record in harvest():
        out.write(json.dumps(record) + "\n")
    out.flush()
    os._exit(0)  # no exit handlers of modules that were only imported to be read


if __name__ == "__main__":
    main()
