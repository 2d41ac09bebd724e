"""The families of reward models, by name."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from training.rewards.base import Family
from training.rewards.classifier import Classifier
from training.rewards.length import Length

FAMILIES: dict[str, type[Family]] = {one.name: one for one in (Classifier, Length)}


def family(name: str, settings: Mapping[str, Any]) -> Family:
    """The family with these settings. Raises ValueError that names what is wrong with the first wrong one."""
    if name not in FAMILIES:
        raise ValueError(f"no family of reward models {name!r}: expected one of {', '.join(FAMILIES)}")
    try:
        return FAMILIES[name].model_validate(dict(settings))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "settings"
        known = ", ".join(FAMILIES[name].model_fields) or "none"
        raise ValueError(f"{name}: {field} is {first.get('input')!r}: {first['msg'].lower()} (settings: {known})") from None
