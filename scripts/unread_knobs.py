"""Configuration fields that no code reads: `python scripts/unread_knobs.py` lists them.

A field counts as read where an attribute of its name is taken from an expression whose type is its
model. Types are followed through annotations, assignments and attributes, as far as that is simple;
where an expression's type stays unknown, a name that only one model has counts as read as well.
`getattr` with a computed name reads all fields of its model, and `rendered()` those of a model that
Kubernetes reads. Validators do not count, and a
property of a model counts only where it is read itself.
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from inspect import get_annotations
from pathlib import Path
from typing import get_args

from pydantic import BaseModel

from rlhf_operator.api.spec import RLHFRunSpec

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("operator/rlhf_operator", "trainer/rlhf_trainer")

PASSES = 4
"""Times over the sources: attributes learn their types from each other."""

THROUGH = frozenset({"get", "items", "pop", "values"})
"""Methods of containers: a container stands for its elements' types."""

HAND_OVER = "rendered"
"""Method of `HandedOver`, which leaves the reading to Kubernetes."""

Types = frozenset[str]
"""Names of the classes that an expression may be an instance of; empty means unknown."""
NOTHING: Types = frozenset()

Model = type[BaseModel]
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Knowledge:
    """What the sources say about types, and which fields they read."""

    models: dict[str, Model]
    members: defaultdict[str, dict[str, Types]] = field(default_factory=lambda: defaultdict(dict))
    """Types of attributes and results of methods, by class."""
    bases: dict[str, list[str]] = field(default_factory=dict)
    results: dict[str, Types] = field(default_factory=dict)
    """Types that functions return."""
    typed_reads: set[tuple[str, str]] = field(default_factory=set)
    """Pairs of class and attribute."""
    untyped_reads: set[str] = field(default_factory=set)
    property_reads: defaultdict[tuple[str, str], set[tuple[str, str]]] = field(
        default_factory=lambda: defaultdict(set)
    )
    """What a model's property reads, by model and property."""

    def member(self, owner: str, name: str) -> Types:
        """Return the types of an attribute, a base class's included."""
        if name in self.members[owner]:
            return self.members[owner][name]
        for base in self.bases.get(owner, []):
            if types := self.member(base, name):
                return types
        return NOTHING


def models_of(model: Model) -> Iterator[Model]:
    """Yield a model, those it derives from, and every model that its fields hold."""
    yield from (base for base in model.__mro__ if issubclass(base, BaseModel))
    for info in model.model_fields.values():
        for inner in _models_in(info.annotation):
            yield from models_of(inner)


def _models_in(annotation: object) -> Iterator[Model]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def paths_of(model: Model, prefix: str = "spec") -> Iterator[tuple[str, Model, str]]:
    """Yield the path of every field, with its model and name."""
    for name, info in model.model_fields.items():
        path = f"{prefix}.{info.alias or name}"
        yield path, model, name
        for inner in _models_in(info.annotation):
            yield from paths_of(inner, path)


def annotated(node: ast.expr | None) -> Types:
    """Return every name in an annotation: a union or container stands for what is in it."""
    if node is None:
        return NOTHING
    names = set()
    for part in ast.walk(node):
        match part:
            case ast.Name(id=name) | ast.Attribute(attr=name):
                names.add(name)
            case ast.Constant(value=str(text)):
                names.add(text.rpartition(".")[2])
            case _:
                pass
    return frozenset(names)


def typeof(node: ast.expr, scope: dict[str, Types], known: Knowledge) -> Types:
    """Return what is known of an expression's type."""
    types = NOTHING
    match node:
        case ast.Name(id=name):
            types = scope.get(name, NOTHING)
        case ast.Attribute(value=value, attr=name):
            types = _union(known.member(owner, name) for owner in typeof(value, scope, known))
        case ast.Call(func=ast.Name(id=name)):
            types = known.results.get(name) or frozenset({name} & known.bases.keys())
        case ast.Call(func=ast.Attribute(value=value, attr=name)) if name in THROUGH:
            types = typeof(value, scope, known)
        case ast.BoolOp(values=parts) | ast.Tuple(elts=parts) | ast.List(elts=parts):
            types = _union(typeof(part, scope, known) for part in parts)
        case ast.IfExp(body=body, orelse=orelse):
            types = typeof(body, scope, known) | typeof(orelse, scope, known)
        case (
            ast.Call(func=value)
            | ast.NamedExpr(value=value)
            | ast.Subscript(value=value)
            | ast.Await(value=value)
        ):
            types = typeof(value, scope, known)
        case _:
            pass
    return types


def _union(types: Iterable[Types]) -> Types:
    return frozenset().union(*types)


def assignments(tree: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Yield pairs of target and value, loops and comprehensions included."""
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    yield from _matched(target, value)
            case ast.NamedExpr(target=target, value=value):
                yield target, value
            case ast.AnnAssign(target=target, value=value) if value is not None:
                yield target, value
            case ast.For(target=target, iter=value) | ast.comprehension(target=target, iter=value):
                yield from _matched(target, value)
            case ast.withitem(optional_vars=target, context_expr=value) if target is not None:
                yield target, value
            case _:
                pass


def _matched(target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    match target, value:
        case ast.Tuple(elts=targets), ast.Tuple(elts=values) if len(targets) == len(values):
            yield from zip(targets, values, strict=True)
        case ast.Tuple(elts=targets), _:
            yield from ((part, value) for part in targets)
        case _:
            yield target, value


def scope_of(tree: ast.AST, owner: str | None, known: Knowledge) -> dict[str, Types]:
    """Return the types of a function's or module's names; nested functions share them."""
    scope: dict[str, Types] = {"self": frozenset({owner})} if owner else {}
    for node in ast.walk(tree):
        match node:
            case ast.arg(arg=name, annotation=annotation) if annotation is not None:
                scope[name] = annotated(annotation)
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
                scope[name] = annotated(annotation)
            case _:
                pass
    for _ in range(2):
        for target, value in assignments(tree):
            types = typeof(value, scope, known)
            match target:
                case ast.Name(id=name) if types:
                    scope[name] = scope.get(name, NOTHING) | types
                case ast.Attribute(value=ast.Name(id="self"), attr=name) if types and owner:
                    known.members[owner].setdefault(name, types)
    return scope


def declare(tree: ast.Module, known: Knowledge) -> None:
    """Note classes, their annotated attributes, and what functions return."""
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name, returns=returns):
                known.results[name] = annotated(returns)
            case ast.ClassDef(name=name, bases=bases, body=body):
                known.bases[name] = [part for base in bases for part in annotated(base)]
                members = known.members[name]
                for part in body:
                    match part:
                        case ast.AnnAssign(target=ast.Name(id=attribute), annotation=annotation):
                            members[attribute] = annotated(annotation)
                        case ast.FunctionDef(name=attribute, returns=returns):
                            members[attribute] = annotated(returns)
                        case _:
                            pass
            case _:
                pass


def note_reads(tree: ast.AST, scope: dict[str, Types], known: Knowledge) -> set[tuple[str, str]]:
    """Return the attributes taken from known types; note those taken from unknown ones."""
    reads = set()
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=value, attr=name, ctx=ast.Load()):
                if owners := typeof(value, scope, known):
                    reads |= {(owner, name) for owner in owners}
                else:
                    known.untyped_reads.add(name)
            case ast.Call(
                func=ast.Name(id="getattr"), args=[value, ast.Constant(value=str(name)), *_]
            ):
                reads |= {(owner, name) for owner in typeof(value, scope, known)}
            case ast.Call(func=ast.Name(id="getattr"), args=[value, *_]):
                owners = typeof(value, scope, known) & known.models.keys()
                reads |= {(owner, name) for owner in owners for name in _fields(known, owner)}
            case ast.Call(func=ast.Attribute(value=value, attr=name)) if name == HAND_OVER:
                reads |= {
                    (model.__name__, field)
                    for owner in typeof(value, scope, known) & known.models.keys()
                    for model in known.models.values()
                    if issubclass(model, known.models[owner])
                    for field in model.model_fields
                }
            case ast.MatchClass(cls=cls, kwd_attrs=names):
                reads |= {(owner, name) for owner in annotated(cls) for name in names}
            case _:
                pass
    return reads


def _fields(known: Knowledge, owner: str) -> Iterable[str]:
    return known.models[owner].model_fields


def study(tree: ast.Module, known: Knowledge) -> None:
    """Follow types through one module, and note what it reads."""
    for node in tree.body:
        match node:
            case ast.ClassDef(name=owner, body=body):
                for method in body:
                    if isinstance(method, Function):
                        _study_method(owner, method, known)
            case _:
                known.typed_reads |= note_reads(node, scope_of(node, None, known), known)


def _study_method(owner: str, method: Function, known: Knowledge) -> None:
    scope = scope_of(method, owner, known)
    if owner not in known.models:
        known.typed_reads |= note_reads(method, scope, known)
    elif any(
        isinstance(mark, ast.Name) and mark.id == "property" for mark in method.decorator_list
    ):
        known.property_reads[owner, method.name] |= note_reads(method, scope, known)


def unread(root: Model, sources: Iterable[str]) -> list[str]:
    """Return the paths of fields of `root` that `sources` do not read."""
    known = learn(root, [ast.parse(source) for source in sources])
    reads = _with_properties(known)
    names = [name for model in known.models.values() for name in get_annotations(model)]
    untyped = {name for name in known.untyped_reads if names.count(name) == 1}
    found: dict[tuple[Model, str], str] = {}
    for path, model, name in paths_of(root):
        if name not in untyped and not _is_read(model, name, reads, known):
            found.setdefault((model, name), path)
    return sorted(found.values())


def learn(root: Model, trees: list[ast.Module]) -> Knowledge:
    """Follow types through all modules, and note what they read."""
    known = Knowledge({model.__name__: model for model in models_of(root)})
    for owner, model in known.models.items():
        for name, info in model.model_fields.items():
            types = frozenset(inner.__name__ for inner in _models_in(info.annotation))
            known.members[owner][name] = types
    for tree in trees:
        declare(tree, known)
    for _ in range(PASSES):
        for tree in trees:
            study(tree, known)
    return known


def _with_properties(known: Knowledge) -> set[tuple[str, str]]:
    """Add what those properties read that are read themselves."""
    reads = set(known.typed_reads)
    for _ in range(PASSES):
        for (owner, name), inner in known.property_reads.items():
            if _is_read(known.models[owner], name, reads, known):
                reads |= inner
    return reads


def _is_read(model: Model, name: str, reads: set[tuple[str, str]], known: Knowledge) -> bool:
    readers = (
        known.models[owner] for owner, read in reads if read == name and owner in known.models
    )
    return any(issubclass(model, reader) or issubclass(reader, model) for reader in readers)


def product_sources() -> Iterator[str]:
    """Yield the text of every module of the product."""
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.read_text(encoding="utf-8")


def main() -> int:
    """List the fields that nobody reads."""
    paths = unread(RLHFRunSpec, product_sources())
    print("\n".join(paths) or "every field is read")
    return 1 if paths else 0


if __name__ == "__main__":
    sys.exit(main())
