"""Opens models safely: which folder a name means, weights only as safetensors (or GGUF), code only on consent.

What cannot be opened ends in one sentence that says what was seen and what was expected.
"""

import json
from collections.abc import Container, Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from training.models import located

if TYPE_CHECKING:
    import torch

_WANTED = [
    "*.safetensors",
    "*.json",
    "*.jinja",
    "*.model",
    "*.txt",
    "*.tiktoken",
    "*.gguf",
    "README.md",
]  # of a hub model: no pickles
_BESIDE = ("*.json", "*.jinja", "*.model", "*.txt")  # what a score also depends on: settings, tokenizer, template
_PICKLES = ("*.bin", "*.pt", "*.pth")
_ENDS = 1 << 20  # bytes at either end of a file that go into a fingerprint
_BYTES = {"float32": 4, "bfloat16": 2}


class Place(NamedTuple):
    """A model on this machine: its folder, and the GGUF file in it where it is one."""

    folder: Path
    gguf: str = ""

    @property
    def arguments(self) -> dict[str, Any]:
        """What `from_pretrained` is given besides the folder."""
        return {"gguf_file": self.gguf} if self.gguf else {}


def place_of(name: str, *, revision: str = "", remote_code: bool = False) -> Place:
    """Where the model of this name is; one on the hub is fetched, without pickles and, unless consented to, without code.

    Raises ValueError where there is none, or where its weights are pickles.
    """
    found = located(name)
    folder = Path(found.place)
    if not folder.is_dir():
        folder = _fetched(found.place, revision, [*_WANTED, "*.py"] if remote_code else _WANTED)
    gguf = sorted(file.name for file in folder.glob("*.gguf"))
    if not any(folder.glob("*.safetensors")):
        if len(gguf) == 1:
            return Place(folder, gguf[0])
        if any(file for pattern in _PICKLES for file in folder.glob(pattern)):
            raise ValueError(
                f"{name!r} holds its weights as pickles, which can run code when they are opened: expected .safetensors files "
                "(save it with safetensors once, on a machine you can lose)"
            )
        if not Path(found.place).is_dir() and _pickles_on_hub(found.place, revision):
            raise ValueError(
                f"{name!r} is on the hub as pickles alone, which can run code when they are opened: expected .safetensors "
                "files (save it with safetensors once, on a machine you can lose, and give the folder)"
            )
        raise ValueError(f"{name!r} holds no weights: expected .safetensors files in {str(folder)!r}")
    return Place(folder)


def _pickles_on_hub(name: str, revision: str) -> bool:
    from huggingface_hub import HfApi

    try:
        files = HfApi().list_repo_files(name, revision=revision or None)
    except Exception:  # noqa: BLE001  whatever its client raises, there is no answer
        return False
    return any(file.endswith(pattern[1:]) for file in files for pattern in _PICKLES)


def _fetched(name: str, revision: str, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=patterns))
    except Exception as error:  # noqa: BLE001  its client raises errors of its own kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"no folder {name!r} here, and the hub did not give a model of that name: {reason}") from None


# ---- what is known of a model without opening it


def fingerprint(place: Place) -> str:
    """16 hex digits of a model's files: names, sizes, and the first and last MiB of each. Other weights, another tokenizer or
    another chat template give other digits."""
    digest = blake2b(digest_size=8)
    beside = [file for pattern in _BESIDE for file in place.folder.glob(pattern)]
    for file in sorted(weight_files(place) + beside):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\n".encode())
        with file.open("rb") as opened:
            digest.update(opened.read(_ENDS))
            if size > _ENDS:
                opened.seek(-_ENDS, 2)
                digest.update(opened.read(_ENDS))
    return digest.hexdigest()


def fingerprint_of_all(names: Iterable[str]) -> str:
    """The fingerprints of several models as one; "" where one of them is not on this machine."""
    found = []
    for name in names:
        if not Path(located(name).place).is_dir():
            return ""
        found.append(fingerprint(place_of(name)))
    return found[0] if len(found) == 1 else blake2b(" ".join(found).encode(), digest_size=8).hexdigest() if found else ""


def commit_of(name: str) -> str:
    """The commit a model on the hub stands at: of the copy on this machine, else as the hub says; "" without an answer."""
    from huggingface_hub import HfApi

    found = located(name)
    if Path(found.place).is_dir():
        return ""
    if found.pinned:
        return found.key.rpartition("@")[2]
    try:
        return HfApi().model_info(name, timeout=5).sha or ""
    except Exception:  # noqa: BLE001  whatever its client raises, there is no answer
        return ""


def licence(place: Place) -> str:
    """The licence its model card names; "" where it names none."""
    card = place.folder / "README.md"
    lines = card.read_text(encoding="utf-8", errors="replace").splitlines() if card.is_file() else []
    if lines[:1] != ["---"]:
        return ""
    for line in lines[1:]:
        if line.startswith("---"):
            return ""
        if line.startswith("license:"):
            return line.partition(":")[2].strip().strip("'\"")
    return ""


def weight_files(place: Place) -> list[Path]:
    """The files with its weights."""
    return [place.folder / place.gguf] if place.gguf else sorted(place.folder.glob("*.safetensors"))


def memory_of(name: str, revision: str = "", dtype: str = "auto") -> int | None:
    """Bytes the weights of a model take when loaded; None where it is not on this machine yet."""
    found = located(name)
    if not Path(found.place).is_dir():
        return None
    place = place_of(name, revision=revision)
    if place.gguf:
        return 6 * weight_files(place)[0].stat().st_size  # 4 or 5 bits a weight become 32
    stored = str(read_config(place.folder).get("dtype") or read_config(place.folder).get("torch_dtype") or "float32")
    wanted = ("bfloat16" if has_gpu() else "float32") if dtype == "auto" else dtype
    size = sum(file.stat().st_size for file in weight_files(place))
    return size * _BYTES[wanted] // (4 if stored == "float32" else 2)


def has_gpu() -> bool:
    """Whether PyTorch sees a GPU here."""
    import torch

    return torch.cuda.is_available()


def read_config(folder: Path) -> dict[str, Any]:
    """Its config.json. Raises ValueError where there is none or it cannot be read."""
    try:
        found: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{str(folder)!r} is no model: its config.json cannot be read ({error})") from None
    return found


# ---- opening it


def device_of(wanted: str) -> "torch.device":
    """The device of this name; "auto" is a GPU where there is one."""
    import torch

    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted)


def dtype_of(wanted: str, device: "torch.device") -> "torch.dtype":
    """The type weights are loaded as: "auto" is bfloat16 on a GPU, float32 on a CPU, where bfloat16 gains nothing."""
    import torch

    if wanted == "auto":
        wanted = "bfloat16" if device.type == "cuda" else "float32"
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[wanted]


def tokenizer_of(place: Place, **arguments: Any) -> Any:
    """The model's tokenizer. Raises ValueError where it has none that can be read."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(place.folder, **{"trust_remote_code": False, **place.arguments, **arguments})
    except Exception as error:  # noqa: BLE001  the tokenizers library raises bare ones
        raise ValueError(f"the tokenizer in {str(place.folder)!r} cannot be read: {one_line(error)}") from None


def has_tokenizer(place: Place) -> bool:
    """Whether a tokenizer is in its folder."""
    return bool(place.gguf) or any(place.folder.glob("tokenizer*"))


def tokenizer_named(name: str) -> Any:
    """The tokenizer of the model of this name, without its weights. Raises ValueError where it cannot be had."""
    found = located(name)
    folder = Path(found.place)
    if not folder.is_dir():
        folder = _fetched(found.place, "", [one for one in _WANTED if one != "*.safetensors"])
    return tokenizer_of(Place(folder) if has_tokenizer(Place(folder)) else place_of(name))


def opened(auto: Any, place: Place, device: "torch.device", dtype: "torch.dtype", **arguments: Any) -> tuple[Any, list[str]]:
    """A model on its device, not training, and the names of weights that its files lack (then they are random).

    `auto` is one of transformers' classes. Raises ValueError where the files are not of such a model.
    """
    model, told = opened_and_told(auto, place, device, dtype, **arguments)
    return model, sorted(told["missing_keys"])


def opened_and_told(
    auto: Any, place: Place, device: "torch.device", dtype: "torch.dtype", **arguments: Any
) -> tuple[Any, dict[str, Any]]:
    """As `opened`, with all that transformers tells: missing_keys, unexpected_keys, mismatched_keys."""
    from safetensors import SafetensorError

    quiet()
    arguments = {"trust_remote_code": False, **arguments}  # left open, transformers asks on the terminal
    try:
        model, told = auto.from_pretrained(
            place.folder, dtype=dtype, use_safetensors=None if place.gguf else True, output_loading_info=True,
            **place.arguments, **arguments,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError, SafetensorError) as error:
        raise ValueError(f"the model in {str(place.folder)!r} cannot be opened: {one_line(error)}") from None
    if place.gguf:  # it was dequantized, and is a plain model from now on
        model.hf_quantizer, model.is_quantized = None, False
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
    return model.to(device).eval(), told


def tensors(place: Place, names: Container[str]) -> Iterator[tuple[str, Any]]:
    """Those of these names among the tensors of its safetensors files, one in memory at a time."""
    from safetensors import SafetensorError, safe_open

    for file in weight_files(place):
        try:
            with safe_open(file, framework="pt") as opened_file:
                for name in opened_file.keys():  # noqa: SIM118  not a dictionary
                    if name in names:
                        yield name, opened_file.get_tensor(name)
        except SafetensorError as error:
            raise ValueError(f"the weights in {str(file)!r} cannot be read: {one_line(error)}") from None


def check_vocabulary(tokenizer: Any, rows: int, name: str) -> None:
    """Raise ValueError where the tokenizer gives ids for which the model has no embedding."""
    unused = {tokenizer.pad_token}  # one that was added to pad with is in no text
    largest = max((number for token, number in tokenizer.get_vocab().items() if token not in unused), default=0)
    if largest >= rows:
        raise ValueError(
            f"the tokenizer of {name!r} gives ids up to {largest:,}, but the model knows {rows:,} tokens: expected the "
            "tokenizer it was trained with"
        )


def quiet() -> None:
    """No progress bars or advice from transformers in a run's log."""
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def one_line(error: BaseException) -> str:
    """An error as one line of at most 300 characters."""
    return " ".join(str(error).split())[:300] or type(error).__name__
