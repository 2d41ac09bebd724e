"""What runs that make policies, or responses of them, are told. The fields are the command's flags and the page's form."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Named(BaseModel):
    """A reward model as a run is told it: its name in the registry, and what that name means.

    `run` is the folder of a run that trains it first; family and settings are then what that run says at its end.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    family: str = ""
    settings: dict[str, Any] = {}
    fingerprint: str = ""  # of its files when it was registered; "" where none were here
    run: str = ""

    @model_validator(mode="after")
    def _is_known(self) -> "Named":
        if bool(self.family) == bool(self.run):
            raise ValueError(f"reward model {self.name!r} wants a family or the run that trains it, one of them")
        return self


class PolicySettings(BaseModel):
    """What every run is told that ends in responses of a policy to held-out prompts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: str = Field(min_length=1, description="the name of the policy that is made, and of the generator of its responses")
    base: str = Field(
        "smollm2", min_length=1, description="what it starts from: a policy made here, a folder, smollm2, or an id on the hub"
    )
    data: str = Field("", description="what it is made from, in words, for the model card")
    seed: int = Field(0, ge=0, lt=2**32, description="of the sampling, of new weights and of the order of what is read")
    max_prompt: int = Field(512, ge=8, description="tokens read of a prompt; of a longer one the beginning is cut")
    max_tokens: int = Field(128, ge=1, description="tokens a response has at most")
    temperature: float = Field(1.0, gt=0, description="logits are divided by it, for sampling and for log-probabilities")
    scored_by: tuple[Named, ...] = ()  # reward models that score the responses to held-out prompts
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the computation: auto is bfloat16 on a GPU, float32 on a CPU"
    )
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto: a GPU where there is one")
    batch_tokens: int = Field(0, ge=0, description="tokens generated side by side, padding included; 0: what suits the device")
    cell: dict[str, Any] = {}  # its place in a grid: alignment, algorithm, reward_model, data, seed


class Looked(PolicySettings):
    """The same of a run that looks at held-out prompts with so many responses; best-of-n has samples of its own."""

    samples: int = Field(1, ge=1, description="responses to each held-out prompt, each time it is looked at")


class Generating(Looked):
    """What a run is told that generates responses of a policy."""

    top_p: float = Field(1.0, gt=0, le=1, description="sample from the likeliest tokens that make up this share; 1: all")
    top_k: int = Field(0, ge=0, description="sample from so many likeliest tokens; 0: all")


class BestOfN(PolicySettings):
    """What a best-of-n run is told: n samples to each held-out prompt, and for each reward model the best of them."""

    n: int = Field(16, ge=1, le=100_000, description="samples to each prompt; what is best of fewer is estimated from the same")
    at_once: int = Field(0, ge=0, description="samples of a prompt generated between two savings; 0: as many as fit")


class Learning(Looked):
    """What every run is told that trains a policy."""

    max_steps: int = Field(0, ge=0, description="stop after so many steps; 0: no limit")
    learning_rate: float = Field(
        0.0, ge=0, lt=1, description="the highest, it falls to 0; 0: what suits the algorithm, more with LoRA"
    )
    batch: int = Field(8, ge=1, description="prompts (or pairs) computed at once")
    accumulate: int = Field(1, ge=1, description="batches that make a step of the optimiser")
    lora_rank: int = Field(
        16,
        ge=0,
        description="train low-rank changes (LoRA) of this rank, without which it is its start again; 0: all weights",
    )
    look_every: int = Field(
        0, ge=0, description="steps between two looks at held-out prompts; 0: at the start and the end alone"
    )
    save_every: int = Field(50, ge=1, description="steps between two checkpoints")


class SupervisedTuning(Learning):
    """What supervised fine-tuning is told. It learns to write the chosen responses."""

    epochs: int = Field(1, ge=1, description="how often each response is read")


class DirectPreference(Learning):
    """What direct preference optimisation (arXiv 2305.18290) is told."""

    epochs: int = Field(1, ge=1, description="how often each pair is read")
    beta: float = Field(0.1, gt=0, description="how strongly it is held to the start")
    loss: Literal["sigmoid", "ipo", "hinge", "robust"] = Field(
        "sigmoid", description="sigmoid (DPO), ipo (arXiv 2310.12036), hinge (2305.10425), robust (2403.00409)"
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=0.5, description="the share of labels known to be turned round (sigmoid, robust)"
    )
    pairs: Literal["labels", "relabelled", "sampled"] = Field(
        "labels",
        description="whose pairs: the data's labels; the data's responses labelled by the reward model (off-policy); or "
        "responses sampled from the start and labelled by it (on-policy)",
    )
    drawn: int = Field(
        4, ge=2, description="with pairs=sampled: responses drawn to a prompt, of which the best and the worst are a pair"
    )
    reward: Named | None = None

    @model_validator(mode="after")
    def _fits(self) -> "DirectPreference":
        if (self.pairs == "labels") != (self.reward is None):
            raise ValueError("a reward model goes with pairs=relabelled or pairs=sampled, and these need one")
        if self.label_smoothing and self.loss not in ("sigmoid", "robust"):
            raise ValueError(
                f"label_smoothing is {self.label_smoothing} with loss={self.loss}: expected it with sigmoid or robust alone"
            )
        return self


class OnPolicy(Learning):
    """What PPO and RLOO are told alike: prompts are answered, a reward model scores the answers, the policy learns."""

    epochs: int = Field(1, ge=1, description="how often each prompt is answered")
    reward: Named
    no_stop: float = Field(
        -1.0,
        description="the score of a response cut off without a stop token: in standard deviations, or without normalise on "
        "the reward model's own scale",
    )
    missing_stop: Literal["penalise", "score"] = Field(
        "penalise", description="a response without a stop token: give it no_stop, or what the reward model says"
    )
    kl: float = Field(
        0.05, ge=0, description="the penalty on each unit of KL to the start; where it is adaptive, its first value"
    )
    kl_target: float = Field(
        0.0, ge=0, description="KL to the start, in nats a response, the penalty adapts to; 0: it stays fixed"
    )
    kl_horizon: int = Field(10_000, ge=1, description="responses over which the penalty adapts")
    kl_limit: float = Field(
        0.0, ge=0, description="stop where KL passes this, in nats a response; 0: 50, or 10 times the target"
    )
    normalise: bool = Field(
        True, description="rewards to mean 0 and standard deviation 1, as measured on responses of the start"
    )
    clip: float = Field(0.2, gt=0, description="how far a probability ratio may leave 1 before its gradient is cut")
    passes: int = Field(1, ge=1, description="times each batch of answers is learned from")
    max_gradient: float = Field(1.0, gt=0, description="gradients longer than this are shortened to it")


class Ppo(OnPolicy):
    """What PPO (arXiv 1707.06347, for language models 2009.01325) is told."""

    passes: int = Field(4, ge=1, description="times each batch of answers is learned from")
    minibatches: int = Field(1, ge=1, description="parts a batch is learned in, a step of the optimiser each")
    discount: float = Field(1.0, gt=0, le=1, description="gamma: what a reward one token later counts")
    trace: float = Field(0.95, ge=0, le=1, description="lambda of generalised advantage estimation (arXiv 1506.02438)")
    value_clip: float = Field(0.2, gt=0, description="how far a value may leave what it was before its gradient is cut")
    value_weight: float = Field(0.1, ge=0, description="weight of the value loss")
    whiten: bool = Field(True, description="rewards to standard deviation 1 within a batch, their mean kept")
    value_from: Literal["zero", "reward"] = Field(
        "zero", description="the value head starts at 0, or as the reward model's head"
    )


class Rloo(OnPolicy):
    """What RLOO (arXiv 2402.14740) is told: the others' mean reward is each answer's baseline."""

    drawn: int = Field(4, ge=2, description="answers to each prompt")
