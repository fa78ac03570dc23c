"""Canonical bytes and the digest of any value: what a result is named by, and found again by.

A digest covers a tag, a version, *every* field (defaults too) and the content of the inputs, so
that a changed default, tensor or data set is a different name and nothing stale is ever reused.
"""

import argparse
import dataclasses
import enum
import functools
import hashlib
import inspect
import json
import math
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tombola.errors import RecipeError


def canonical(value: object) -> Any:
    """`value` as plain JSON data, the same for equal values in every process.

    Numbers, text, sequences, mappings, enumerations, tensors, functions, classes, frozen
    dataclasses, and anything with a `digest` of its own are understood.

    Raises:
        RecipeError: for a value whose identity cannot be told.

    Example:
        >>> canonical({"b": (1, 2.5), "a": None})
        {'a': None, 'b': [1, 2.5]}
    """
    match value:
        case enum.Enum():  # first: members of an IntEnum are integers too
            return {"enum": f"{type(value).__qualname__}.{value.name}"}
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else {"float": repr(value)}
        case Tensor():
            return {"tensor": tensor_digest(value)}
        case torch.dtype() | torch.device():
            return {"torch": str(value)}
    own = getattr(value, "digest", None)
    if isinstance(own, str):
        return {"digest": own}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            field.name: canonical(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if field.metadata.get("identity", True)
        }
        return {"type": code_identity(type(value)), "fields": fields}
    if isinstance(value, Mapping):
        return {str(key): canonical(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, set | frozenset):
        return sorted((canonical(item) for item in value), key=json.dumps)
    if isinstance(value, Sequence):
        return [canonical(item) for item in value]
    if isinstance(value, functools.partial):
        return {
            "partial": [canonical(value.func), canonical(value.args), canonical(value.keywords)]
        }
    if isinstance(value, types.MethodType):
        return {"method": [canonical(value.__self__), canonical(value.__func__)]}
    if isinstance(value, type):
        return {"class": code_identity(value)}
    if isinstance(value, types.FunctionType):
        return {"function": code_identity(value)}
    if isinstance(value, types.BuiltinFunctionType):
        return {"builtin": f"{value.__module__}.{value.__qualname__}"}
    raise RecipeError(
        f"cannot tell the identity of a {type(value).__qualname__} ({value!r:.80}), so results "
        "made with it could not be found again. Use a frozen dataclass, a function, numbers, text "
        "or tensors, or give the object a `digest` attribute (a text that changes when it does)."
    )


def canonical_bytes(value: object) -> bytes:
    """The canonical form as UTF-8 JSON without spaces, keys sorted."""
    form = canonical(value)
    return json.dumps(form, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest(value: object) -> str:
    """SHA-256 of the canonical bytes, 64 hexadecimal digits.

    Example:
        >>> digest((1, "a")) == digest([1, "a"]), digest(1) == digest(1.0)
        (True, False)
    """
    return hashlib.sha256(canonical_bytes(value)).hexdigest()


def tensor_digest(tensor: Tensor) -> str:
    """SHA-256 of dtype, shape and bytes: -0.0 differs from 0.0, as it should."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    head = f"{tensor.dtype}{tuple(tensor.shape)}".encode()
    hashed = hashlib.sha256(head)
    if flat.numel():
        hashed.update(flat.view(torch.uint8).numpy().data)
    return hashed.hexdigest()


# Too entangled to be told by their code.
LIBRARIES = frozenset({"transformers", "timm", "torchvision", "diffusers", "peft"})
FOUNDATIONS = LIBRARIES | {"torch", "numpy"}  # the same where a user's code holds a part of them


def code_identity(thing: Any) -> str:
    """Names a class or function: ours by name and version, anybody else's by its code as well.

    A user who edits a score in a notebook must not get the results of the old one. The code is what
    Python has compiled in this process, with defaults, closed-over values and class attributes, and
    the plain values and functions of its own module that it names. Other modules it calls are not
    followed: put a `version` on what delegates to them. Of `LIBRARIES`, the version that is
    installed stands for the code.
    """
    name = f"{thing.__module__}.{thing.__qualname__}"
    if name.split(".")[0] in LIBRARIES:
        return _at_version(thing)
    version = getattr(thing, "version", 1)
    if name.startswith("tombola."):
        return f"{name}@{version}"
    text = json.dumps(_code(thing, set()), sort_keys=True, separators=(",", ":"))
    return f"{name}@{version}:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _at_version(thing: Any) -> str:
    package = str(thing.__module__).split(".")[0]
    return f"{thing.__module__}.{thing.__qualname__}@{sys.modules[package].__version__}"


# What a dataclass or Python itself adds to a class: it follows from the fields.
_GENERATED = {"__repr__", "__eq__", "__hash__", "__setattr__", "__delattr__", "__replace__"}


def _code(thing: Any, seen: set[int]) -> Any:
    """A class or function as JSON data; what has been seen already is named only."""
    if id(thing) in seen:
        return {"again": getattr(thing, "__qualname__", type(thing).__qualname__)}
    seen.add(id(thing))
    if isinstance(thing, type):
        return _class_code(thing, seen)
    if isinstance(thing, (staticmethod, classmethod)):
        return _code(thing.__func__, seen)
    if isinstance(thing, property):
        return [_code(part, seen) for part in (thing.fget, thing.fset) if part is not None]
    if isinstance(thing, functools.cached_property):
        return _code(thing.func, seen)
    if isinstance(thing, types.FunctionType):
        held = [_held(cell, seen) for cell in thing.__closure__ or ()]
        plain = [thing.__defaults__, thing.__kwdefaults__]
        return [_compiled(thing.__code__), held, _known(plain, seen), _named(thing, seen)]
    return _known(thing, seen)


def _class_code(owner: type, seen: set[int]) -> Any:
    made = _GENERATED | {"__init__"} if dataclasses.is_dataclass(owner) else set()
    members = {
        name: _code(member, seen)
        for name, member in vars(owner).items()
        if not (name in made and _is_generated(member))
        and (isinstance(member, types.FunctionType) or not name.startswith("__"))
        and not name.startswith("_abc_")
    }
    bases = [base for base in owner.__bases__ if _is_users(base)]
    return [members, [_code(base, seen) for base in bases]]


def _is_generated(member: Any) -> bool:
    code = getattr(inspect.unwrap(member), "__code__", None) if callable(member) else None
    return code is None or code.co_filename == "<string>"


def _is_users(thing: Any) -> bool:
    package = str(getattr(thing, "__module__", "")).split(".")[0]
    return package not in sys.stdlib_module_names | {"tombola", "torch", "numpy"}


def _held(cell: types.CellType, seen: set[int]) -> Any:
    """A closed-over value; one whose identity cannot be told is an error, for it may matter."""
    try:
        value = cell.cell_contents
    except ValueError:
        return "empty"
    if not isinstance(value, (types.FunctionType, type)):
        return canonical(value)
    package = str(value.__module__).split(".")[0]
    return _at_version(value) if package in FOUNDATIONS else _code(value, seen)


_SETTINGS = (bool, int, float, str, tuple, list, dict, set, frozenset, Tensor)


def _is_record(value: Any) -> bool:
    """A dataclass instance or a namespace: settings under names."""
    named = isinstance(value, (types.SimpleNamespace, argparse.Namespace))
    return named or (dataclasses.is_dataclass(value) and not isinstance(value, type))


def _named(function: types.FunctionType, seen: set[int]) -> Any:
    """The module's own settings, functions and classes that a function names."""
    found = {}
    for name in sorted(_names(function.__code__)):
        value = function.__globals__.get(name)
        own = getattr(value, "__module__", None) == function.__module__
        if isinstance(value, _SETTINGS) or _is_record(value):
            found[name] = _known(value, seen)
        elif own and isinstance(value, (types.FunctionType, type)):
            found[name] = _code(value, seen)
    return found


def _names(code: types.CodeType) -> set[str]:
    inner = (item for item in code.co_consts if isinstance(item, types.CodeType))
    return set(code.co_names).union(*(_names(item) for item in inner))


def _known(value: Any, seen: set[int]) -> Any:
    """A value's canonical form, or its type where it has none."""
    if isinstance(value, (types.FunctionType, type)):
        return _code(value, seen)
    if isinstance(value, (tuple, list)):
        return [_known(item, seen) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _known(item, seen) for key, item in value.items()}
    if _is_record(value):
        return [type(value).__qualname__, {k: _known(v, seen) for k, v in vars(value).items()}]
    try:
        return canonical(value)
    except RecipeError:
        return {"of": type(value).__qualname__}


def _compiled(code: types.CodeType) -> Any:
    """What Python runs, without line numbers, so that a comment changes nothing."""
    constants = [
        _compiled(item)
        if isinstance(item, types.CodeType)
        else sorted(map(repr, item))
        if isinstance(item, frozenset)
        else repr(item)
        for item in code.co_consts
    ]
    return [code.co_code.hex(), constants, code.co_names, code.co_varnames, code.co_freevars]
