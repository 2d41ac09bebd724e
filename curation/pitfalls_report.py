"""Pitfalls as rows for people: probes down, reward models across."""

from collections.abc import Mapping, Sequence

from curation import benchmark, pitfalls
from curation.probes import PROBES
from curation.stats.pitfalls import Pitfall
from curation.workspace import Workspace


def found(workspace: Workspace, dataset: str, models: Sequence[str]) -> dict[str, dict[str, Pitfall]]:
    """By reward model that was probed on this dataset, and by probe."""
    probed = {model: pitfalls.probed(workspace, dataset, model) for model in models}
    return {
        model: benchmark.kept(workspace, ("pitfalls", dataset, model), one.pitfalls)
        for model, one in probed.items()
        if one is not None
    }


def rows(workspace: Workspace, dataset: str, models: Sequence[str]) -> list[dict[str, str]]:
    """The share of prompts on which the spoilt response scores higher, with n and interval; none where nobody was probed."""
    by_model = found(workspace, dataset, models)
    return [{"probe": name, **{model: in_words(one[name]) for model, one in by_model.items()}} for name in PROBES if by_model]


def in_words(one: Pitfall) -> str:
    """The share, and by how many standard deviations of the originals' scores the spoilt responses score higher on average."""
    if one.shift.value is None or one.shift.low is None or one.shift.high is None:
        return one.share.words()
    shift = f"{one.shift.value:+z.2f} [{one.shift.low:+z.2f}, {one.shift.high:+z.2f}]"
    return f"{one.share.words()}; shift {shift} sd"


def heat(
    by_model: dict[str, dict[str, Pitfall]],
) -> tuple[list[str], list[str], list[list[float | None]], list[list[str]]]:
    """Probes, reward models, the shares (None where undefined) and words for each, as a chart takes them."""
    models = list(by_model)
    values = [[by_model[model][name].share.value for model in models] for name in PROBES]
    words = [[by_model[model][name].share.words() for model in models] for name in PROBES]
    return list(PROBES), models, values, words


def worst_first(found: Mapping[str, Pitfall]) -> list[str]:
    """The probes by how often one model falls for them; those that say nothing last."""

    def share(name: str) -> float:
        value = found[name].share.value
        return -1.0 if value is None else value

    return sorted(found, key=share, reverse=True)
