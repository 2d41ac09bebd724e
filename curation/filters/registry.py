"""All filters by name, and a filter made from parameters as they come from a command line or a form."""

from collections.abc import Mapping

from pydantic import ValidationError

from curation.filters.base import Filter
from curation.filters.contested import Contested
from curation.filters.duplicate import Duplicate
from curation.filters.empty import Empty
from curation.filters.indistinct import Indistinct
from curation.filters.repetitive import Repetitive
from curation.filters.toxic import Toxic
from curation.filters.transcript import Transcript
from curation.filters.vague import Vague

FILTERS: dict[str, type[Filter]] = {
    one.name: one for one in (Empty, Transcript, Repetitive, Vague, Indistinct, Duplicate, Toxic, Contested)
}


def configured(name: str, parameters: Mapping[str, object]) -> Filter:
    """The filter of this name with these parameters, which may be text. ValueError says what was wrong with which."""
    if name not in FILTERS:
        raise ValueError(f"there is no filter {name!r}; expected one of {', '.join(FILTERS)}")
    kind = FILTERS[name]
    for parameter in parameters:
        if parameter not in kind.model_fields:
            known = f"expected one of {', '.join(kind.model_fields)}" if kind.model_fields else "it has none"
            raise ValueError(f"filter {name!r} has no parameter {parameter!r}; {known}")
    try:
        return kind.model_validate(dict(parameters))
    except ValidationError as error:
        first = error.errors()[0]
        field, expected = first["loc"][0], first["msg"].replace("Input", "it", 1)
        raise ValueError(f"filter {name!r}: {field} is {first['input']!r}, but {expected}") from None
