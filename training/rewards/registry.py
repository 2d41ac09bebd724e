"""The families of reward models, by name."""

from collections.abc import Mapping
from typing import Any

from training.rewards.base import Family
from training.rewards.beaver import Beaver
from training.rewards.classifier import Classifier
from training.rewards.endpoint import Endpoint
from training.rewards.ensemble import Ensemble
from training.rewards.implicit import Implicit
from training.rewards.judge import Judge
from training.rewards.length import Length
from training.rewards.minilm_bt import MinilmBT
from training.rewards.pair_rm import PairRM
from training.rewards.starling import Starling
from training.rewards.steam_shp import SteamSHP
from training.rewards.ultra import Eurus, Ultra
from training.rewards.ziya import Ziya
from training.settings import validated

_ALL: tuple[type[Family], ...] = (
    Classifier, Starling, Ultra, Eurus, Beaver, Ziya, PairRM, SteamSHP, Judge, Implicit, Ensemble, Endpoint, Length,
    MinilmBT,
)  # fmt: skip
FAMILIES: dict[str, type[Family]] = {one.name: one for one in _ALL}


def family(name: str, settings: Mapping[str, Any]) -> Family:
    """The family with these settings. Raises ValueError that names what is wrong with the first wrong one."""
    if name not in FAMILIES:
        raise ValueError(f"no family of reward models {name!r}: expected one of {', '.join(FAMILIES)}")
    return validated(FAMILIES[name], settings, of=name)
