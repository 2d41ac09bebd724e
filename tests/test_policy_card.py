"""What a policy's run says of what it made: the summary, its lineage, and the card written from it."""

import re
import subprocess

import pytest
import yaml
from markdown_it import MarkdownIt

from tests.tiny_models import tiny_causal, tiny_tokenizer
from training import loading, policy_card
from training.policy_settings import DirectPreference, Generating, Named, SupervisedTuning

HOSTILE = "<img src=x onerror=alert(1)> [a](javascript:b) `c` ![d](http://e/f.png)\n# heading | cell\n- item"
POINTS = [
    {"point": 0, "n": 40, "kl": 0.0, "length": 12.5, "stopped": 0.75, "scores": {"gold": 1.25}},
    {"point": 30, "n": 40, "kl": 3.5, "length": 20.0, "stopped": 0.5, "scores": {"gold": -2.0}},
]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("somewhere") / "the-start"
    tiny_tokenizer(folder)
    tiny_causal(folder)
    return folder


def settings_of(base, **changed):
    told = {
        "policy": "dpo-1", "base": str(base), "data": "HH-RLHF cleaned 2", "seed": 11, "pairs": "relabelled",
        "reward": Named(name="proxy", family="length", fingerprint="0123abcd"), "cell": {"algorithm": "dpo", "seed": 11},
        "scored_by": (Named(name="gold", family="length"),),
    }  # fmt: skip
    return DirectPreference(**{**told, **changed})


def summary_of(settings, kind="dpo", **changed):
    facts = {
        "model": "model", "steps": 30, "points": POINTS, "seconds": 20.0, "generated": 500, "trained": 1500,
        "data_hash": "f" * 64, "notes": ["three pairs were dropped"],
    }  # fmt: skip
    return policy_card.summary(settings, kind, **{**facts, **changed})


def test_the_summary_says_what_the_policy_was_made_of(base):
    found = summary_of(settings_of(base))
    assert found["base"] == {
        "name": "the-start", "hub": "", "fingerprint": loading.fingerprint(loading.place_of(str(base))), "licence": "",
    }  # fmt: skip
    assert (found["policy"], found["kind"], found["steps"], found["points"]) == ("dpo-1", "dpo", 30, POINTS)
    assert found["tokens_per_second"] == 100.0
    assert found["lineage"] == {
        "kind": "dpo", "base": found["base"], "data": "HH-RLHF cleaned 2", "data_hash": "f" * 64, "pairs": "relabelled",
        "reward_model": {"name": "proxy", "fingerprint": "0123abcd"}, "seed": 11, "code": policy_card.code_version(),
        "cell": {"algorithm": "dpo", "seed": 11},
    }  # fmt: skip
    assert found["peak_memory"] > 10e6
    assert DirectPreference.model_validate(found["settings"]) == settings_of(base)


def test_a_policy_without_a_reward_model_says_so(base):
    settings = SupervisedTuning(policy="plain", base=str(base))
    found = summary_of(settings, "sft", seconds=0.0)
    assert found["lineage"]["reward_model"] is None
    assert found["tokens_per_second"] == 0.0
    assert "| reward model | none |" in policy_card.card(found)


def test_responses_that_were_only_generated_have_a_summary_too(base):
    found = summary_of(Generating(policy="g", base=str(base)), "generate", model="", steps=0, trained=0)
    assert (found["model"], found["kind"], found["lineage"]["pairs"]) == ("", "generate", None)


def test_the_card_names_data_reward_model_seed_code_and_numbers_with_their_n(base):
    found = summary_of(settings_of(base))
    text = policy_card.card(found)
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in text.splitlines() if line.startswith("| ")}
    assert "`HH-RLHF cleaned 2`" in rows["data"]
    assert "`" + "f" * 64 + "`" in text
    assert rows["reward model"] == "| reward model | `proxy`, files `0123abcd` |"
    assert "`11`" in rows["seed"]
    assert policy_card.code_version() in rows["code"]
    assert rows["0"] == "| 0 | 40 | 0.000 | 12.5 | 0.750 | 1.2500 |"
    assert rows["30"] == "| 30 | 40 | 3.500 | 20.0 | 0.500 | -2.0000 |"
    assert "| pairs | the responses of the data, labelled by the reward model (off-policy) |" in text
    assert rows["beta"] == "| beta | `0.1` |"
    assert "three pairs were dropped" in text
    assert str(base) not in text  # nothing of somebody's machine


def test_the_header_is_yaml_with_base_licence_and_tags(base):
    found = summary_of(settings_of(base))
    found["licence"], found["base"] = 'apache-2.0"\nevil: yes', {**found["base"], "hub": "some/model"}
    header = yaml.safe_load(policy_card.card(found).split("---\n")[1])
    assert header == {
        "license": 'apache-2.0"\nevil: yes', "base_model": "some/model", "library_name": "transformers",
        "pipeline_tag": "text-generation", "tags": ["policy", "rlhf", "dpo"],
    }  # fmt: skip


def test_what_was_not_measured_is_not_shown_as_a_number(base):
    points = [{**POINTS[0], "kl": None, "scores": {}}, POINTS[1]]
    text = policy_card.card(summary_of(settings_of(base), points=points))
    assert "| 0 | 40 | not measured | 12.5 | 0.750 | not measured |" in text
    assert "No prompts were held out" in policy_card.card(summary_of(settings_of(base), points=[]))


def test_no_name_in_a_card_forms_markdown_or_html(base):
    plain = policy_card.card(summary_of(settings_of(base)))
    reward = Named(name=HOSTILE, family="length", fingerprint=HOSTILE)
    settings = settings_of(base, policy=HOSTILE, data=HOSTILE, reward=reward, scored_by=(reward,), cell={HOSTILE: HOSTILE})
    points = [{**one, "scores": {HOSTILE: 1.0}} for one in POINTS]
    found = summary_of(settings, points=points, notes=[HOSTILE])
    found["base"] = {**found["base"], "name": HOSTILE, "fingerprint": HOSTILE}
    text = policy_card.card(found)
    assert "onerror" in text  # it is there, as text
    assert elements_of(text) == elements_of(plain)


def elements_of(card):
    """How many elements of each kind a card is shown as, code spans apart."""
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(card.partition("\n---\n")[2])
    tags = re.findall(r"<(\w+)", re.sub(r"<code>.*?</code>", "", html, flags=re.DOTALL))
    return {tag: tags.count(tag) for tag in sorted(set(tags))}


# ---- the version of the code


def git(folder, *words):
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=folder, check=True, capture_output=True
    )  # fmt: skip


def test_a_checkout_is_named_by_its_commit_and_whether_it_was_changed(tmp_path):
    assert policy_card.commit_in(tmp_path) == ""
    git(tmp_path, "init")
    (tmp_path / "code.py").write_text("1")
    assert policy_card.commit_in(tmp_path) == ""  # nothing committed yet
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert policy_card.commit_in(tmp_path) == f"commit {head[:12]}"
    (tmp_path / "code.py").write_text("2")
    assert policy_card.commit_in(tmp_path) == f"commit {head[:12]} (changed)"
    (tmp_path / "inside").mkdir()
    assert policy_card.commit_in(tmp_path / "inside") == ""  # a folder of somebody else's checkout says nothing of it


def test_without_git_the_package_version_is_left(tmp_path, monkeypatch):
    git(tmp_path, "init")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert policy_card.commit_in(tmp_path) == ""
    assert policy_card.code_version().startswith("elephant-room")
