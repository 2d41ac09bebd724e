"""What a training run of a reward model is told."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

HEAD = "minilm-bt"


class Training(BaseModel):
    """What a training run is told. The fields are the command's flags and the page's form."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(min_length=1, description="the name of the reward model that is made")
    base: str = Field(
        HEAD, min_length=1,
        description="what it is made from: minilm-bt (a head on sentence embeddings, minutes on a CPU), or a causal model: "
        "a folder, smollm2, or an id on the hub",
    )  # fmt: skip
    data: str = Field("", description="what the pairs are, in words, for the model card")
    seed: int = Field(0, ge=0, lt=2**32, description="of the new head and the order of the pairs")
    epochs: int = Field(1, ge=1, description="how often each pair is read")
    max_steps: int = Field(0, ge=0, description="stop after so many steps; 0: no limit")
    learning_rate: float = Field(0.0, ge=0, lt=1, description="0: 1e-5, with LoRA 1e-4. It rises at first, then falls to 0")
    batch_pairs: int = Field(16, ge=1, description="pairs computed at once")
    accumulate: int = Field(1, ge=1, description="batches that make a step")
    lora_rank: int = Field(0, ge=0, description="train low-rank changes (LoRA) of this rank; 0: all weights")
    max_length: int = Field(1024, ge=8, description="tokens read of prompt and response together, at most what the model can")
    too_long: Literal["cut", "drop"] = Field(
        "cut", description="of a longer text: cut its beginning, or leave the pair out. Either is counted"
    )
    label_smoothing: float = Field(0.0, ge=0, le=0.5, description="the share of labels taken to be turned round")
    centring: float = Field(0.01, ge=0, description="how strongly scores are drawn towards a mean of 0")
    margin_weight: float = Field(
        0.0, ge=0, description="difference of scores asked for, for each unit of a pair's preference strength; 0: none"
    )
    eval_every: int = Field(50, ge=1, description="steps between two looks at the held-out pairs")
    save_every: int = Field(50, ge=1, description="steps between two checkpoints")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the computation: auto is bfloat16 on a GPU, float32 on a CPU"
    )
    penalty: float = Field(
        0.0, ge=0, description="minilm-bt: inverse strength of the L2 penalty; 0: the best in a cross-validation by prompt"
    )
    embeddings: str = Field("minilm", min_length=1, description="minilm-bt: minilm, a folder, or a sentence-transformers id")
