"""Generates responses of a policy to held-out prompts, as a background run: `python -m training.generate RUN_FOLDER`.

    input/prompts.parquet      what it answers: the held-out ones. See training/policy_data.py
    output/responses.parquet   its answers, with scores
    output/summary.json        what was done; it is written last

Every part that is done is kept, so a resumed run samples none twice.
"""

from training import engine, policy_card, policy_data
from training.policy_data import Prompt
from training.policy_settings import Generating
from training.reasons import plain_reasons
from training.run import Run, say, write_json


def generate(run: Run) -> None:
    """The job. Raises ValueError, OSError or MemoryError with a sentence that says why it cannot go on."""
    if (run.output / policy_data.SUMMARY).exists():
        return
    settings = Generating.model_validate(run.config())
    policy_card.code_version()  # as the code is now
    prompts = policy_data.prompts(run.input).held_out
    if not prompts:
        raise ValueError("there are no held-out prompts: expected at least one to answer")
    total = len(prompts) * settings.samples
    run.tell(0, total, "responses", f"opening {settings.base}", seconds=0)
    smaller = "fewer tokens side by side (batch_tokens), shorter responses (max_tokens) or shorter prompts (max_prompt)"
    with plain_reasons(run, smaller):
        _answer(run, settings, prompts)
    run.tell(total, total, "responses", f"{total:,} responses to {len(prompts):,} prompts")


def _answer(run: Run, settings: Generating, prompts: list[Prompt]) -> None:
    from training import rewarding
    from training.looks import Looks
    from training.policies import opened

    looks = Looks(run, settings, prompts, measured=False, top_p=settings.top_p, top_k=settings.top_k)
    policy = opened(settings.base, precision=settings.precision, device=settings.device)
    numbers = looks.look(policy, 0)
    say(f"{numbers['length']:.1f} tokens a response, {numbers['stopped']:.0%} of them ended by themselves")
    del policy  # its memory is the reward models' now
    rewarding.emptied()
    points = looks.finish()
    look = looks.at(0)
    notes = [f"{looks.cut:,} prompts were longer than max_prompt and lost their beginning"] if looks.cut else []
    found = policy_card.summary(
        settings, "generate", model="", steps=0, points=points, seconds=look.seconds, trained=0,
        generated=sum(one.tokens for one in look.answers), data_hash=policy_data.prompts_hash(prompts), notes=notes,
    )  # fmt: skip
    write_json(run.output / policy_data.SUMMARY, found)


if __name__ == "__main__":
    engine.main(generate)
