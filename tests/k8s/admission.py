"""
A MutatingAdmissionPolicy as the API server applies it to a pod: conditions, variables and JSON patches, with real CEL.

The expressions are checked for types and evaluated by Google's CEL in C++ (cel-expr-python). The types that they make,
`JSONPatch{}` and `Object.spec.…{}`, are Kubernetes' own; here they are protobuf messages made from the schema of a pod, so
an unknown field or a value of a wrong type does not compile. (The API server itself finds that later, in the patched pod.)

One thing is rewritten before compiling: `Object.spec.volumes{` becomes `Object_spec_volumes{`, for protobuf lets no message
have the name of a field beside it, as `Object.spec.initContainers.ports` does. That a name fits the place where its value
is put, which the API server wants, follows: the field there has just that type.

What this does not know: limits on an expression's cost, and functions of Kubernetes' own.
"""

from __future__ import annotations

import copy
import json
import re
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from cel_expr_python import cel
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, json_format, message_factory, struct_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from google.protobuf.message import Message

_MADE: Final = re.compile(r"\bObject((?:\.\w+)+)\{")

_Field = descriptor_pb2.FieldDescriptorProto

_ANY_JSON: Final = ".google.protobuf.Value"
_OBJECT: Final = ".google.protobuf.Struct"

_SCALARS: Final = {"string": _Field.TYPE_STRING, "integer": _Field.TYPE_INT32, "boolean": _Field.TYPE_BOOL}


class Policy:
    """One policy of one version of Kubernetes."""

    def __init__(self, document: Mapping[str, Any], *, kubernetes: str) -> None:
        """Compile every expression. Raises ValueError with CEL's message if one is invalid."""
        spec = document["spec"]
        (rule,) = spec["matchConstraints"]["resourceRules"]
        assert (rule["operations"], rule["resources"]) == (["CREATE"], ["pods"])
        expressions = [mutation["jsonPatch"]["expression"] for mutation in spec["mutations"]]
        pool = _make_types(expressions, kubernetes=kubernetes)
        self._pool = pool
        self._env = cel.NewEnv(descriptor_pool=pool, variables=dict.fromkeys(("object", "variables"), cel.Type.DYN))
        self._conditions = {each["name"]: self._compile(each["expression"]) for each in spec["matchConditions"]}
        self._variables = {each["name"]: self._compile(each["expression"]) for each in spec["variables"]}
        self._mutations = [self._compile(expression) for expression in expressions]

    def _compile(self, expression: str) -> Any:
        try:
            return self._env.compile(_MADE.sub(lambda match: _message_name(match[1]) + "{", expression))
        except RuntimeError as error:
            raise ValueError(str(error)) from None

    def is_met(self, condition: str, pod: Mapping[str, Any]) -> bool:
        """Return whether a condition holds for a pod."""
        met = self._conditions[condition].eval(data={"object": pod}).plain_value()
        assert isinstance(met, bool), met
        return met

    def admit(self, pod: Mapping[str, Any]) -> dict[str, Any]:
        """Return the pod after admission."""
        admitted: dict[str, Any] = copy.deepcopy(dict(pod))
        if not all(self.is_met(condition, pod) for condition in self._conditions):
            return admitted
        variables: dict[str, Any] = {}
        for name, expression in self._variables.items():
            variables[name] = expression.eval(data={"object": pod, "variables": variables}).plain_value()
        for expression in self._mutations:
            patches = expression.eval(data={"object": pod, "variables": variables}).plain_value()
            for patch in patches:
                _add(admitted, **self._written(patch))
        return admitted

    def _written(self, patch: Message) -> dict[str, Any]:
        """Return an operation as JSON."""
        name = patch.value.type_url.rpartition("/")[2]  # type: ignore[attr-defined] # a message made at run time
        value = message_factory.GetMessageClass(self._pool.FindMessageTypeByName(name))()
        patch.value.Unpack(value)  # type: ignore[attr-defined] # likewise
        written = json_format.MessageToDict(value, preserving_proto_field_name=True, descriptor_pool=self._pool)
        return {"op": patch.op, "path": patch.path, "value": written}  # type: ignore[attr-defined] # likewise


def _add(document: Any, *, op: str, path: str, value: Any) -> None:
    """Apply an add operation to members of objects and places in arrays (RFC 6902 §4.1)."""
    assert op == "add", op
    *parents, last = path.removeprefix("/").split("/")
    for name in parents:
        document = document[int(name)] if isinstance(document, list) else document[name]
    if isinstance(document, list):
        index = len(document) if last == "-" else int(last)
        assert 0 <= index <= len(document), path
        document.insert(index, value)
    else:
        document[last] = value


# --- types of a pod, as messages -----------------------------------------------------------------------------------


def _message_name(path: str) -> str:
    return "Object" + path.replace(".", "_")


def _make_types(expressions: Iterable[str], *, kubernetes: str) -> descriptor_pool.DescriptorPool:
    """Return the messages for the types in the expressions; other fields may hold any JSON."""
    pool = descriptor_pool.DescriptorPool()
    file = descriptor_pb2.FileDescriptorProto(name="admission.proto", syntax="proto2")
    for module in (any_pb2, struct_pb2):
        known = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(known)
        pool.Add(known)
        file.dependency.append(known.name)
    patch = file.message_type.add(name="JSONPatch")
    for number, name in enumerate(("op", "path", "from"), start=1):
        patch.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL, type=_Field.TYPE_STRING)
    patch.field.add(
        name="value",
        number=4,
        label=_Field.LABEL_OPTIONAL,
        type=_Field.TYPE_MESSAGE,
        type_name=".google.protobuf.Any",
    )
    made = {path for expression in expressions for path in _MADE.findall(expression)}
    schema = _Schema(kubernetes)
    for path in sorted(made):
        message = file.message_type.add(name=_message_name(path))
        for number, (name, about) in enumerate(schema.fields(path).items(), start=1):
            kind, is_list = schema.kind(about)
            field = message.field.add(name=name, number=number)
            field.label = _Field.LABEL_REPEATED if is_list else _Field.LABEL_OPTIONAL
            field.type = _SCALARS.get(kind, _Field.TYPE_MESSAGE)
            if field.type == _Field.TYPE_MESSAGE:
                field.type_name = f".{_message_name(f'{path}.{name}')}" if f"{path}.{name}" in made else kind
    pool.Add(file)
    return pool


class _Schema:
    """The schema of a pod, followed by the names of fields."""

    def __init__(self, kubernetes: str) -> None:
        folder = resources.files("kubernetes_validate") / "kubernetes-json-schema" / f"v{kubernetes}.0-local-strict"
        self._pod = json.loads((folder / "pod-v1.json").read_text(encoding="utf-8"))
        self._definitions = json.loads((folder / "_definitions.json").read_text(encoding="utf-8"))["$defs"]

    def fields(self, path: str) -> dict[str, Any]:
        """Return what is known of the fields at a path such as `.spec.volumes`. Raises KeyError if there are none."""
        about = self._pod
        for name in path.split(".")[1:]:
            about = self._resolve(about["properties"][name])
        fields: dict[str, Any] = about["properties"]
        return fields

    def _resolve(self, about: dict[str, Any]) -> dict[str, Any]:
        about = about.get("items", about)
        if "$ref" in about:
            about = self._definitions[about["$ref"].rpartition("/")[2]]
        return about

    def kind(self, about: dict[str, Any]) -> tuple[str, bool]:
        """Return a field's scalar type or its message, and whether it is a list of those."""
        one = self._resolve(about)
        names = one.get("type", "any")
        name = names if isinstance(names, str) else names[0]
        kind = name if name in _SCALARS else _OBJECT if "additionalProperties" in one else _ANY_JSON
        return kind, "items" in about
