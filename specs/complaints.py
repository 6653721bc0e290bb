"""Turns what pydantic found wrong with a document into located errors in plain words, with a remedy."""

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from specs.errors import REFUSAL, SpecError, dotted
from specs.fields import homes, known_fields
from specs.secrecy import looks_private_key, looks_provider_key, shown
from specs.suggest import nearest, suggestion
from specs.yaml_tree import Node, Path, Scalar, Sequence, child_of, node_at, place_of, scalars
from specs.yaml_words import Plain

Words = tuple[str, str]
"""Problem and remedy."""

_PROVIDERS: Final = "providers"
_SECRET_FIELDS: Final = frozenset({"password", "passwd", "token", "apikey", "secretkey", "privatekey"})
_WANTED: Final = {
    "string_type": ("text", "write a word or a line, in quotes if need be"),
    "int_type": ("a whole number", "write it without quotes, like 4"),
    "bool_type": ("true or false", "write true or false, without quotes"),
    "tuple_type": ("a list", "write it like [one, two]"),
    "model_type": ("fields", "write it like {name: value}, or take the field out"),
    "mapping_type": ("fields", "write it like {name: value}, or take the field out"),
    "dict_type": ("fields", "write it like {name: value}, or take the field out"),
}


def complaints(file: str, root: Node, model: type[BaseModel], error: ValidationError) -> Iterator[SpecError]:
    """Every error of the validation, with its place in the document."""
    raw: list[Any] = list(error.errors(include_url=False, include_input=False))
    for each in raw:
        if _echo(each, raw):
            continue
        path, at_key = _cleaned(root, tuple(each["loc"]), each["type"] == "missing")
        at_key = at_key or each["type"] == "extra_forbidden"
        problem, remedy = _words(each, node_at(root, path), model, path)
        yield SpecError(file, *place_of(root, path, at_key), dotted(path), problem, remedy)


def secrets_in_clear(file: str, root: Node) -> Iterator[SpecError]:
    """Private keys and provider keys anywhere in the document, which is no place for them."""
    for path, place, text in scalars(root):
        if looks_private_key(text):
            remedy = "take it out, make a new pair, and refer to it as env:NAME, file:path or a sealed name"
            yield SpecError(file, *place, dotted(path), "a private key is written here in clear", remedy)
        elif looks_provider_key(text):
            remedy = "take it out, have it replaced, and refer to it as env:NAME, file:path or a sealed name"
            yield SpecError(file, *place, dotted(path), "a key or token is written here in clear", remedy)


def _echo(error: Any, among: list[Any]) -> bool:
    """Whether an error only follows from another: a list lacks what is broken in it, a missing field is misspelt."""
    loc = error["loc"]
    if error["type"] == "too_short":
        return any(other is not error and other["loc"][: len(loc)] == loc for other in among)
    if error["type"] == "missing":
        unknown = [other["loc"] for other in among if other["type"] == "extra_forbidden"]
        return any(place[:-1] == loc[:-1] and nearest(str(place[-1]), [str(loc[-1])]) for place in unknown)
    return False


def _cleaned(root: Node, loc: Path, missing: bool) -> tuple[Path, bool]:
    """The path in the document: without the steps that only pydantic knows (branches of a union, a mapping's key)."""
    at_key = bool(loc) and loc[-1] == "[key]"
    steps = loc[:-1] if at_key or missing else loc
    path: list[str | int] = []
    node = root
    for step in steps:
        below = child_of(node, step)
        if below is not None:
            path.append(step)
            node = below
    return ((*path, loc[-1]) if missing else tuple(path)), at_key


def _words(error: Any, node: Node | None, model: type[BaseModel], path: Path) -> Words:
    kind, context = error["type"], error.get("ctx", {})
    if kind == REFUSAL:
        return str(context["problem"]), str(context["remedy"])
    if kind in _WANTED:
        return _wrong_type(node, *_WANTED[kind])
    special = _SPECIAL.get(kind)
    if special is not None:
        return special(context, node, model, path)
    return _lower(error["msg"]), "correct it"


def _wrong_type(node: Node | None, wanted: str, remedy: str) -> Words:
    if isinstance(node, Scalar):
        if wanted == "text" and isinstance(node.value, Plain | int | bool):
            reading = node.value.reading if isinstance(node.value, Plain) else "a number"
            reading = "true or false" if isinstance(node.value, bool) else reading
            text = node.text[:40]
            return f"{text} without quotes is {reading} to YAML, and here belongs text", f'write it in quotes: "{text}"'
        if node.value is None:
            return f"there is no value, and here belongs {_with_article(wanted)}", remedy
        return f"{shown(node.text)} is not {_with_article(wanted)}", remedy
    found = "a list" if isinstance(node, Sequence) else "fields"
    return f"here {'belong' if wanted == 'fields' else 'belongs'} {wanted}, not {found}", remedy


def _with_article(wanted: str) -> str:
    return {"text": "text", "fields": "a mapping of fields"}.get(wanted, wanted)


def _missing(context: Any, node: Node | None, model: type[BaseModel], path: Path) -> Words:
    name = str(path[-1])
    examples = {"email": "email: alice@example.org", "name": "name: alice", "secret": "secret: env:NAME"}
    return f"{name} is missing", f"add it, like {examples[name]}" if name in examples else "add it"


def _unknown(context: Any, node: Node | None, model: type[BaseModel], path: Path) -> Words:
    name = str(path[-1])
    problem = f"there is no field {shown(name)} here"
    if re.sub(r"[^a-z]", "", name.lower()) in _SECRET_FIELDS:
        return problem, "no secret is ever written in a spec; one-time passwords are made for new accounts"
    known = known_fields(model, path[:-1])
    elsewhere = homes(model).get(name, ())
    if nearest(name, known) is None and elsewhere:
        return problem, f"it belongs to {elsewhere[0].rpartition('.')[0] or 'the top'}"
    return problem, suggestion(name, known)


def _word(context: Any, node: Node | None, model: type[BaseModel], path: Path) -> Words:
    known = re.findall(r"'([^']*)'", str(context.get("expected", "")))
    if not isinstance(node, Scalar) or node.value is None:
        return "here belongs a word", f"one of {', '.join(known)}"
    # Where a key is chosen somebody may have written the key itself, and not every provider's can be told from a word.
    may_be_a_key = _PROVIDERS in path and nearest(node.text, known) is None
    text = "what is written here" if may_be_a_key else shown(node.text)
    return f"{text} is not a word for this", suggestion(node.text, known)


def _pattern(context: Any, node: Node | None, model: type[BaseModel], path: Path) -> Words:
    text = shown(node.text) if isinstance(node, Scalar) else "this"
    examples = {
        "certificateAuthority": "file:/etc/ssl/ca.pem",
        "gridNode": '"2", the number that the grid gives the node',
        "maxRemovals": "20% or 5",
        "sid": '"0001", the daemon\'s own id of the node',
        "user": "root",
    }
    like = examples.get(str(path[-1]))
    remedy = f"write it like {like}" if like else f"it must match {context.get('pattern')}"
    return f"{text} has not the right form", remedy


def _bound(words: str, name: str) -> Callable[[Any, Node | None, type[BaseModel], Path], Words]:
    def say(context: Any, node: Node | None, model: type[BaseModel], path: Path) -> Words:
        text = node.text[:40] if isinstance(node, Scalar) else "it"
        return f"{text} is out of range", f"{words} {context.get(name)}"

    return say


def _too_short(context: Any, node: Node | None, model: type[BaseModel], path: Path) -> Words:
    return "the list is too short", f"it takes at least {context.get('min_length')}"


_SPECIAL: Final[dict[str, Callable[[Any, Node | None, type[BaseModel], Path], Words]]] = {
    "missing": _missing,
    "extra_forbidden": _unknown,
    "literal_error": _word,
    "string_pattern_mismatch": _pattern,
    "greater_than_equal": _bound("at least", "ge"),
    "less_than_equal": _bound("at most", "le"),
    "too_short": _too_short,
}


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
