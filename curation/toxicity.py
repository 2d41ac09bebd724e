"""How toxic a text is: Detoxify where its weights can be had, else a list of words; which of them reads is always told.

Detoxify's weights are a pickle, which can run anything when it is loaded: it is opened only after its sha256 agreed with
the digits in its file name.
"""

import hashlib
import http.client
import re
import socket
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from importlib import metadata
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training import batches

Numbers = NDArray[np.float32]

AUTO, WORDS = "auto", "words"
_HASH = re.compile(r"-([0-9a-f]{8,})\.")
_BUDGET = {"cpu": 4096, "cuda": 65536, "mps": 16384}  # tokens a batch
_COST = {"cpu": 1100.0, "cuda": 15.0, "mps": 150.0}  # ms a thousand characters, base size: 2 cores measured, the rest guessed
_PATIENCE = 10.0  # seconds without a byte until a download is given up
_WORD = re.compile(r"\b\w\w+\b")  # what alt-profanity-check takes for a word

# Words that alt-profanity-check takes for profane by themselves and that answers use without harm: of bodies and illness,
# of hate as a topic, of groups of people, mild oaths. They count in its probability, but do not make a text a hard one.
_EVERYDAY = """
anal anus arrogant balls bloody blow butt buzz chambers chauvinist ck cking crap crybaby dammit damn die dirty
disgrace disgusting donkey fart fascist fat fatty fool freak freaking freaky garbage gay goddamn hate hater hell ho hoe hoes
homo homosexual hos hypocrisy ignorant ing kill lick mental mouth nazi nazis negro nerd nerds nosed nuts pedophile pig piss
pretentious psychopath queer queers racist rapist rat ridiculous rubbish screw sex sh shame shut sick skull smelly
spiteful spout stink stinks stinky suck sucked sucking sucks ugliest ugly vagina
"""
_HARD = 0.8  # a word's own probability from which it is hard


TOXICITY, PROFANITY, HARDEST = "toxicity", "profanity", "hardest word"  # names of columns
_BASES = {  # what each published model was trained from: its config and tokenizer are wanted too
    "original": "google-bert/bert-base-uncased",
    "unbiased": "FacebookAI/roberta-base",
    "multilingual": "FacebookAI/xlm-roberta-base",
}
NAMES = (AUTO, WORDS, *_BASES)
_TOKENIZER = ("tokenizer.json", "vocab.*", "merges.txt", "sentencepiece.*")
_RENAMED = {"toxic": TOXICITY, "identity_hate": "identity_attack", "severe_toxic": "severe_toxicity"}  # as Detoxify does


EVERYDAY_WORTH = 0.45  # of the word list's probability where no hard word stands behind it: below the usual threshold


def level(rows: Numbers, classes: Sequence[str]) -> Numbers:
    """How toxic each text is, (n): Detoxify's class toxicity; of the word list, as much of its probability as counts."""
    if TOXICITY in classes:
        return rows[:, classes.index(TOXICITY)]
    hard = rows[:, classes.index(HARDEST)] > 0
    return np.where(hard, 1.0, EVERYDAY_WORTH).astype(np.float32) * rows[:, classes.index(PROFANITY)]


class CannotBeHad(Exception):
    """A model's files are not here and cannot be fetched; says why, to go on after 'because'."""


class Detoxify:
    """A Detoxify model as a reader: a text's row holds the model's classes, 0..1 each.

    Texts beyond the model's length (512 tokens) are cut, as Detoxify cuts them.
    """

    def __init__(self, weights: Path, folder: Path, name: str) -> None:
        """`folder` holds the config and tokenizer. Raises ValueError for weights that are not what their name says, and
        for those that cannot be loaded."""
        self.key = f"detoxify sha256 {verified(weights)}"
        self.short = self.described = f"Detoxify {name}"
        self.device = device()
        self.cost = _COST[self.device]
        try:
            self._model, self._tokenizer, self.classes = _loaded(weights, folder)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, EOFError, UnpicklingError) as error:
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            raise ValueError(f"{weights} cannot be loaded as a Detoxify checkpoint: {why}") from error
        if TOXICITY not in self.classes:
            raise ValueError(f"{weights} has no class {TOXICITY!r}, which is wanted; it has {', '.join(self.classes)}")
        self._model.to(self.device).eval()

    def read(self, texts: Sequence[str]) -> Numbers:
        """(n, classes); texts of like length are read together."""
        import torch

        rows = np.empty((len(texts), len(self.classes)), np.float32)
        if not texts:
            return rows
        encoded = self._tokenizer(list(texts), truncation=True, max_length=self._longest)
        lengths = [len(one) for one in encoded["input_ids"]]
        for batch in batches.by_budget(lengths, budget=_BUDGET[self.device]):
            some = {name: [values[place] for place in batch] for name, values in encoded.items()}
            inputs = self._tokenizer.pad(some, return_tensors="pt").to(self.device)
            with torch.inference_mode():
                logits = self._model(**inputs)[0].float()
            rows[batch] = torch.sigmoid(logits)[:, : len(self.classes)].cpu().numpy()
        return rows

    @property
    def _longest(self) -> int:
        most = int(self._tokenizer.model_max_length)
        # a tokenizer that was saved without its length says 1e30; RoBERTa's positions begin at 2
        return most if most < 1_000_000 else int(self._model.config.max_position_embeddings) - 2


class WordList:
    """alt-profanity-check as a reader: `profanity` is the probability it gives the text; `hardest word` is what it gives
    the hardest of the text's words alone, 0 where there is none but those of everyday use."""

    classes = (PROFANITY, HARDEST)
    cost = 0.3

    def __init__(self, why: str = "") -> None:
        """`why` says why no better model reads; empty where the list was asked for."""
        version = metadata.version("alt-profanity-check")
        self.key = f"alt-profanity-check@{version} hard words 1"
        self.short = f"word list of alt-profanity-check: {why or 'as asked for'}"
        self.described = f"alt-profanity-check {version} (knows words, not meaning){f', because {why}' if why else ''}"

    def read(self, texts: Sequence[str]) -> Numbers:
        """(n, 2)"""
        from profanity_check import predict_prob  # scikit-learn, wanted only here

        rows = np.zeros((len(texts), 2), np.float32)
        if len(texts):
            rows[:, 0] = predict_prob(list(texts))
            rows[:, 1] = [max((self._hard[word] for word in self.hard_words(text)), default=0.0) for text in texts]
        return rows

    def hard_words(self, text: str) -> set[str]:
        """The words of a text, in small letters, that are hardly ever said without harm."""
        low = text.lower()
        for root in self._roots:  # most texts hold none, which is seen sooner than their words are counted
            if root in low:
                return self._hard.keys() & set(_WORD.findall(low))
        return set()

    @cached_property
    def _hard(self) -> dict[str, float]:
        from profanity_check import predict_prob
        from profanity_check.profanity_check import vectorizer

        known = sorted(set(vectorizer.vocabulary_) - set(_EVERYDAY.split()))
        return {word: float(sure) for word, sure in zip(known, predict_prob(known), strict=True) if sure >= _HARD}

    @cached_property
    def _roots(self) -> list[str]:
        """Texts of which every hard word holds one."""
        return [word for word in self._hard if not any(other in word for other in self._hard if other != word)]


@lru_cache(maxsize=2)  # a loaded model is large, and is asked for by reader, texts and judged of a filter
def chosen(model: str) -> Detoxify | WordList:
    """The reader for a model's name: auto, words, original, unbiased, multilingual, or a folder with a checkpoint.

    `auto` downloads nothing: it is Detoxify's `original` where that is here, else the word list. The three names are
    downloaded where they are not here; where that cannot be done, the word list reads and says why. Raises ValueError for
    another name, a folder without a checkpoint that can be loaded, and weights that are not what their name says.
    """
    if model == WORDS:
        return WordList()
    if model == AUTO or model in _BASES:
        try:
            return _published("original" if model == AUTO else model, download=model != AUTO)
        except CannotBeHad as error:
            return WordList(str(error))
    folder = Path(model).expanduser()
    if not model.strip() or not folder.is_dir():
        raise ValueError(
            f"there is no toxicity model {model!r}; expected one of {', '.join(NAMES)}, or a folder with a checkpoint"
        )
    found = sorted(folder.resolve().glob("*.ckpt"))
    if len(found) != 1:
        raise ValueError(f"the folder {folder} holds {len(found)} files that end in .ckpt; expected exactly one")
    return Detoxify(found[0], found[0].parent, found[0].parent.name)


def verified(weights: Path) -> str:
    """The sha256 of a file of weights, read without loading it. Raises ValueError where it is not that of its name."""
    expected = _HASH.search(weights.name)
    if expected is None:
        raise ValueError(
            f"{weights} is not loaded, because its name holds no hash to check it by: name it NAME-HASH.ckpt, "
            f"with the first 8 or more hex digits of the sha256 that its publisher gives"
        )
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(expected[1]):
        raise ValueError(
            f"{weights} is not loaded, because its sha256 begins with {digest[: len(expected[1])]} "
            f"where {expected[1]} was expected by its name: delete it and fetch it again"
        )
    return digest


def _loaded(weights: Path, folder: Path) -> tuple[Any, Any, tuple[str, ...]]:
    """Model, tokenizer and classes of a verified checkpoint, with Detoxify's own function.

    Detoxify(checkpoint=...) itself would ask the hub for the base model by name, even with a folder given; here the folder
    stands in for that name, so that nothing is fetched.
    """
    import torch
    from detoxify.detoxify import get_model_and_tokenizer

    kept = torch.load(weights, map_location="cpu", weights_only=False)  # holds more than tensors; verified before
    architecture = {**kept["config"]["arch"]["args"], "model_type": str(folder)}
    model, tokenizer = get_model_and_tokenizer(**architecture, state_dict=kept["state_dict"])
    missing = [name for name, _ in model.named_parameters() if name.startswith("classifier") and name not in kept["state_dict"]]
    if missing:  # it would be made up at random
        raise ValueError(f"it lacks {missing[0]}")
    classes = kept["config"]["dataset"]["args"]["classes"]
    return model, tokenizer, tuple(_RENAMED.get(name, name) for name in classes)


def _published(name: str, *, download: bool) -> Detoxify:
    """A published model. Raises CannotBeHad where a part of it is neither here nor to be fetched."""
    import torch
    from detoxify.detoxify import MODEL_URLS

    weights = Path(torch.hub.get_dir(), "checkpoints", MODEL_URLS[name].rpartition("/")[2])
    if weights.exists():
        verified(weights)  # wrong weights are refused, whatever else is missing
    elif not download:
        raise CannotBeHad("Detoxify's weights are not on this machine")
    base = _base(_BASES[name], download=download)  # first, as it is small
    if not weights.exists():
        _fetch(MODEL_URLS[name], weights)
    return Detoxify(weights, base, name)


def _base(repository: str, *, download: bool) -> Path:
    """The folder with config and tokenizer of the model that a Detoxify model was trained from."""
    from huggingface_hub import snapshot_download, try_to_load_from_cache

    name = repository.rpartition("/")[2]
    for known_as in (repository, name):
        config = try_to_load_from_cache(known_as, "config.json")
        if isinstance(config, str) and any(_tokenizers(Path(config).parent)):
            return Path(config).parent
    what = f"the config and tokenizer of {name}, which Detoxify needs,"
    if not download:
        raise CannotBeHad(f"{what} are not on this machine")
    try:
        return Path(snapshot_download(repository, allow_patterns=["config.json", "tokenizer_config.json", *_TOKENIZER]))
    except Exception as error:  # noqa: BLE001  its own, the system's, and those of the HTTP library below it
        raise CannotBeHad(f"{what} could not be downloaded ({_first_line(error)})") from None


def _tokenizers(folder: Path) -> Iterator[Path]:
    return (file for kind in _TOKENIZER for file in folder.glob(kind))


def _fetch(url: str, weights: Path) -> None:
    """Download weights to where torch.hub keeps them; the file appears whole and verified, or not at all."""
    import torch

    expected = _HASH.search(weights.name)
    weights.parent.mkdir(parents=True, exist_ok=True)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_PATIENCE)
    try:
        torch.hub.download_url_to_file(url, str(weights), hash_prefix=expected and expected[1], progress=False)
    except RuntimeError as error:  # what torch.hub says of a wrong hash
        raise ValueError(f"{url} is not loaded, because what was downloaded is not what its name says: {error}") from None
    except (OSError, http.client.HTTPException) as error:
        raise CannotBeHad(f"Detoxify's weights could not be downloaded ({_first_line(error)})") from None
    finally:
        socket.setdefaulttimeout(before)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].removeprefix("Got: ")


def device() -> str:
    """Where a model runs here: cuda, mps or cpu."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
