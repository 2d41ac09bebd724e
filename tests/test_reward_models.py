"""The registry of reward models: a name means one model for ever, and whoever opens it later opens that one."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from curation import reward_models, runs
from curation.reward_models import register
from curation.workspace import Workspace
from tests.conftest import SMALL, Clock, import_rows
from tests.tiny_models import change_config, tiny_classifier, tiny_tokenizer

CARD = "---\ntags:\n- reward\nlicense: 'apache-2.0'\n---\n# A model\nlicense: none of this counts\n"


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(tmp_path_factory.mktemp("made")) / "model"
    tiny_tokenizer(folder)
    tiny_classifier(folder)
    (folder / "README.md").write_text(CARD)
    return folder


@pytest.fixture
def folder(made_once: Path, tmp_path: Path) -> Path:
    """A tiny classifier with a model card, this test's own."""
    return Path(shutil.copytree(made_once, tmp_path / "model"))


def refusal(workspace: Workspace, *named: Any) -> str:
    """The sentence in which a registration is refused, which leaves the registry as it was."""
    before = reward_models.all_models(workspace)
    with pytest.raises(ValueError) as error:  # noqa: PT011  the sentence is what is looked at
        register(workspace, *named, "ana")
    assert reward_models.all_models(workspace) == before
    assert "\n" not in str(error.value)
    return str(error.value)


def names(workspace: Workspace) -> list[str]:
    return [one.reward_model for one in reward_models.all_models(workspace)]


@pytest.mark.parametrize("name", ["", " ", "a b", "a/b", "../a", "-a", ".a", "ä", "a\n", "a" * 61, "runs/1/model"])
def test_a_name_that_cannot_be_used_is_refused(workspace: Workspace, name: str) -> None:
    assert refusal(workspace, name, "length", {}).startswith(f"the name {name!r} cannot be used: expected up to 60 letters")


def test_a_name_that_is_taken_is_refused_and_keeps_its_meaning(workspace: Workspace) -> None:
    register(workspace, "a" * 60, "length", {}, "ana")
    endpoint = {"address": "http://127.0.0.1:1/"}
    assert refusal(workspace, "a" * 60, "endpoint", endpoint).startswith("there is a reward model 'aaaa")
    assert reward_models.model_named(workspace, "a" * 60).family == "length"


def test_length_is_there_from_the_start_and_nobody_can_take_its_name(
    workspace: Workspace, tmp_path: Path, clock: Clock
) -> None:
    with pytest.raises(ValueError, match="there is a reward model 'length' already: choose another name"):
        register(workspace, "length", "endpoint", {"address": "http://127.0.0.1:1/"}, "ana")
    assert names(workspace) == names(workspace) == ["length"]
    assert refusal(workspace, "length", "length", {}).startswith("there is a reward model 'length' already")
    assert reward_models.model_named(workspace, "length").family == "length"
    with pytest.raises(ValueError, match="no reward model 'lenght': there is length"):
        reward_models.model_named(workspace, "lenght")


@pytest.mark.parametrize(
    ("family", "settings", "sentence"),
    [
        ("clasifier", {}, "no family of reward models 'clasifier': expected one of classifier, starling, "),
        ("classifier", {}, "classifier: source is "),
        (
            "classifier",
            {"source": "x", "temperature": 1},
            "classifier: there is no setting 'temperature': expected one of source, ",
        ),
        ("length", {"source": "x"}, "length: there is no setting 'source': expected no settings"),
        ("endpoint", {"address": "ftp://x"}, "endpoint: address is 'ftp://x': expected an address that begins with http"),
        ("ensemble", {"members": "length"}, "ensemble: members is "),
        ("ensemble", {"members": "length, longest"}, "no reward model 'longest': there is length"),
    ],
)
def test_an_unknown_family_and_wrong_settings_are_told_in_a_sentence(
    workspace: Workspace, family: str, settings: dict[str, Any], sentence: str
) -> None:
    assert refusal(workspace, "new", family, settings).startswith(sentence)


def test_a_folder_that_holds_no_weights_or_pickles_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    assert "holds no weights: expected .safetensors" in refusal(workspace, "new", "classifier", {"source": str(folder)})
    (folder / "pytorch_model.bin").write_bytes(b"x")
    assert "holds its weights as pickles" in refusal(workspace, "new", "classifier", {"source": str(folder)})


def test_the_licence_is_that_of_the_model_card_and_one_that_is_given_comes_first(workspace: Workspace, folder: Path) -> None:
    source = {"source": str(folder)}
    assert register(workspace, "one", "classifier", source, "ana").licence == "apache-2.0"
    assert register(workspace, "two", "classifier", source, "ana", licence="MIT").licence == "MIT, apache-2.0"
    (folder / "README.md").write_text("license: mit\n")  # text, not front matter
    assert register(workspace, "three", "classifier", source, "ana").licence == ""
    (folder / "README.md").unlink()
    assert register(workspace, "four", "classifier", source, "ana").licence == ""
    assert "licence apache-2.0" in reward_models.described(workspace.scores.model("one"))


def test_only_settings_that_differ_are_kept_and_give_the_same_family_again(workspace: Workspace, folder: Path) -> None:
    model = register(workspace, "one", "classifier", {"source": str(folder), "dtype": "auto", "max_length": "64"}, "ana")
    assert json.loads(model.settings) == {"source": str(folder), "max_length": 64}
    assert (model.compares, model.person, model.registered_at) == (False, "ana", workspace.clock())
    assert reward_models.opened_by(workspace, model).model_dump()["max_length"] == 64
    assert workspace.scores.model("one") == model


def test_a_folder_is_found_again_from_anywhere(
    workspace: Workspace, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    model = register(workspace, "one", "classifier", {"source": "model"}, "ana")
    both = register(workspace, "both", "ensemble", {"members": ["one", "length"]}, "ana")
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "model").mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    for one in (model, both):
        assert [*reward_models.opened_by(workspace, one).sources()] == [str(folder)]


@pytest.mark.parametrize("absolute", [False, True])
def test_a_trained_model_is_found_in_a_workspace_that_was_moved(
    workspace: Workspace, folder: Path, tmp_path: Path, clock: Clock, at_once: None, absolute: bool
) -> None:
    place = workspace.runs / "1-reward" / "model"
    shutil.move(folder, place)
    source = str(place) if absolute else "runs/1-reward/model"
    trained = register(workspace, "trained", "classifier", {"source": source}, "elephant", run_id="1-reward")
    register(workspace, "both", "ensemble", {"members": "trained,length"}, "ana")
    assert json.loads(trained.settings) == {"source": "runs/1-reward/model"}
    assert trained.fingerprint
    import_rows(workspace, SMALL)
    workspace.close()
    moved = Workspace(Path(shutil.move(workspace.folder, tmp_path / "moved")), clock=clock)
    try:
        for name in ("trained", "both"):
            run = runs.start_run(moved, "score", {"reward_model": name, "dataset": "small"})
            assert (run.state().status, run.state().error) == ("done", None)
            assert str(moved.folder) in json.dumps(run.config()["settings"])
        runs.settle(moved)
        assert {name: count for name, (count, _) in moved.scores.counts().items()} == {"trained": 8, "both": 8}
    finally:
        moved.close()


def test_members_of_an_ensemble_are_given_by_name_and_stay_what_they_were(workspace: Workspace, folder: Path) -> None:
    register(workspace, "one", "classifier", {"source": str(folder), "max_length": 64}, "ana")
    for number, members in enumerate((["one", "length"], " one , length ")):
        model = register(workspace, f"both-{number}", "ensemble", {"members": members, "how": "worst"}, "ana")
        assert json.loads(model.settings) == {
            "members": [{"family": "classifier", "source": str(folder), "max_length": 64}, {"family": "length"}],
            "how": "worst",
        }  # fmt: skip
        assert model.licence == "apache-2.0"
        assert model.fingerprint == workspace.scores.model("one").fingerprint


CHANGES = {
    "weights": lambda folder: tiny_classifier(folder, seed=1),
    "config": lambda folder: change_config(folder, rope_theta=1.0),
    "tokenizer": lambda folder: (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text() + " "),
    "another file of weights": lambda folder: shutil.copy(folder / "model.safetensors", folder / "more.safetensors"),
}


@pytest.mark.parametrize(("name", "what"), [*(("one", what) for what in CHANGES), ("both", "weights")])
def test_files_that_changed_after_registering_fail_the_run_and_store_nothing(
    workspace: Workspace, folder: Path, at_once: None, name: str, what: str
) -> None:
    register(workspace, "one", "classifier", {"source": str(folder)}, "ana")
    register(workspace, "both", "ensemble", {"members": "one,length"}, "ana")
    import_rows(workspace, SMALL)
    CHANGES[what](folder)
    run = runs.start_run(workspace, "score", {"reward_model": name, "dataset": "small"})
    state = run.state()
    assert state.status == "failed"
    assert state.error is not None
    assert state.error.startswith(f"ValueError: the files of {name!r} have changed since it was registered (")
    assert state.error.endswith("register them under another name")
    assert [*run.output.iterdir()] == []
    assert runs.settle(workspace) == []
    assert (workspace.scores.counts(), workspace.scores.runs()) == ({}, [])


def test_a_card_that_changed_changes_no_model(workspace: Workspace, folder: Path, at_once: None) -> None:
    register(workspace, "one", "classifier", {"source": str(folder)}, "ana")
    import_rows(workspace, SMALL)
    (folder / "README.md").write_text("another card")
    assert runs.start_run(workspace, "score", {"reward_model": "one", "dataset": "small"}).state().status == "done"


def test_every_family_is_listed_with_its_settings_and_what_they_mean() -> None:
    listed = {one["family"]: one for one in reward_models.families()}
    assert {"classifier", "ensemble", "endpoint", "length", "minilm_bt"} <= set(listed) | {"minilm_bt"}
    for one in listed.values():
        assert one["what it is"].endswith(".")
        assert all(setting["means"] for setting in one["settings"].values())
