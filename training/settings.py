"""Settings that were typed: a settings class makes of them what it can, and one sentence says what is wrong with the first."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

T = TypeVar("T", bound=BaseModel)


def validated(kind: type[T], settings: Mapping[str, Any], *, of: str = "") -> T:
    """The settings as an object of this class. Raises ValueError that names the setting, what was seen and what was expected.

    `of` names whose settings they are, where that is not plain.
    """
    try:
        return kind.model_validate(dict(settings))
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{of}: {_sentence(kind, first)}" if of else _sentence(kind, first)) from None


def _sentence(kind: type[BaseModel], first: Any) -> str:
    own = first.get("ctx", {}).get("error")  # our own sentence
    if not first["loc"]:
        return str(own)  # on settings that do not go together
    field, known = ".".join(map(str, first["loc"])), ", ".join(kind.model_fields) or "none"
    if first["type"] == "missing":
        return f"{field} is missing: expected {field}=VALUE"
    if first["type"] == "extra_forbidden":
        return f"there is no setting {field!r}: expected {'one of ' + known if kind.model_fields else 'no settings'}"
    what = str(own) if own else first["msg"][0].lower() + first["msg"][1:]
    return f"{field} is {first.get('input')!r}: {what}"
