"""What a grid of alignment is asked for."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from training.reward_ensemble import HOWS

TRAINED = "train:"  # before a base: a reward model that is trained first, on each of the data
ALGORITHMS = {  # by name: the kind of run, and its settings
    "ppo": ("ppo", {}), "rloo": ("rloo", {}),
    "dpo": ("dpo", {"pairs": "relabelled"}),  # a reward model decides, as in all others, and the data's own texts are used
    "dpo-labels": ("dpo", {"pairs": "labels"}), "dpo-sampled": ("dpo", {"pairs": "sampled"}),
    "best-of-n": ("best-of-n", {}),
}  # fmt: skip
_LISTS = ("reward_models", "ensembles", "algorithms", "data", "seeds", "gold")


class Alignment(BaseModel):
    """What a grid is asked for. The fields are the command's flags and the page's form; lists are written with commas."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1, description="of the grid; the names of all it makes begin with it")
    base: str = Field(
        "smollm2", min_length=1, description="what policies start from: a policy here, a folder, smollm2, a hub id"
    )
    reward_models: str = Field(
        "",
        description="those that are optimised: names of the registry, or train:BASE (train:minilm-bt), trained first on "
        "each of the data",
    )
    ensembles: str = Field(
        "",
        description="also optimise ensembles of all these reward models, on each of the data and with each seed: mean, worst, "
        "uncertainty (mean - weight x variance)",
    )
    members: int = Field(
        1, ge=1, description="reward models that each train:BASE gives the ensembles; beside the first, with seeds of their own"
    )
    algorithms: str = Field(
        "ppo,rloo,dpo,best-of-n",
        description="ppo, rloo, dpo (the data's responses, labelled by the reward model), dpo-sampled (the start's responses, "
        "labelled by it), dpo-labels (the data's labels), best-of-n",
    )
    data: str = Field(
        min_length=1, description="original and cleaned: DATASET, DATASET/SUBSET, release:NAME; a + joins several into one"
    )
    seeds: str = Field("0", min_length=1, description="numbers; three or more say how much is chance")
    gold: str = Field("", description="reward models held out from optimisation, that judge what comes of it")
    sft: bool = Field(False, description="fine-tune the base on each data's chosen responses first, as the start of all else")
    count: int = Field(0, ge=0, description="prompts (or pairs) a policy learns from, the same ones each time; 0: all")
    looked_at: int = Field(64, ge=1, description="held-out prompts that are answered, the same ones in all jobs")
    held_out: float = Field(0.1, gt=0, lt=1, description="share of the conversations that nothing learns from")
    split_seed: int = Field(0, description="another number, another split")
    max_prompt: int = Field(512, ge=8, description="tokens read of a prompt; of a longer one the beginning is cut")
    max_tokens: int = Field(128, ge=1, description="tokens a response has at most")
    temperature: float = Field(1.0, gt=0, description="of sampling")
    samples: int = Field(1, ge=1, description="responses to each held-out prompt, each time it is looked at")
    n: int = Field(16, ge=1, description="best-of-n: samples to each held-out prompt")
    max_steps: int = Field(0, ge=0, description="of each policy's training; 0: until the data is read")
    learning_rate: float = Field(0.0, ge=0, lt=1, description="of each policy's training; 0: what suits the algorithm")
    batch: int = Field(8, ge=1, description="prompts (or pairs) computed at once")
    lora_rank: int = Field(16, ge=0, description="train low-rank changes (LoRA) of this rank; 0: all weights")
    look_every: int = Field(
        0, ge=0, description="steps between two looks at held-out prompts; 0: a quarter of max_steps, or at start and end alone"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: bfloat16 on a GPU, float32 on a CPU")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto: a GPU where there is one")
    at_once: int = Field(0, ge=0, description="jobs that run at a time; 0: one for each GPU, one on a CPU")
    set: dict[str, dict[str, Any]] = Field(
        {},
        description="more settings by algorithm, and of sft, reward and ensemble: "
        '{"ppo": {"kl": 0.1}, "reward": {"epochs": 2}, "ensemble": {"weight": 0.5}}',
    )

    @field_validator(*_LISTS, mode="before")
    @classmethod
    def _as_text(cls, given: Any) -> Any:
        return ",".join(map(str, given)) if isinstance(given, list | tuple) else str(given)

    @field_validator("algorithms", "ensembles")
    @classmethod
    def _known(cls, given: str, about: ValidationInfo) -> str:
        what, known = ("algorithm", ALGORITHMS) if about.field_name == "algorithms" else ("ensemble", HOWS)
        for one in listed(given):
            if one not in known:
                raise ValueError(f"there is no {what} {one!r}: expected some of {', '.join(known)}")
        return given

    @field_validator("seeds")
    @classmethod
    def _numbers(cls, given: str) -> str:
        for one in listed(given):
            if not one.isdecimal():
                raise ValueError(f"there is no seed {one!r}: expected numbers with commas")
        return given


def listed(given: str) -> tuple[str, ...]:
    """What is written with commas, each once."""
    return tuple(dict.fromkeys(filter(None, map(str.strip, given.split(",")))))
