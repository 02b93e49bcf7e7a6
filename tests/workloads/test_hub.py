"""The hub is asked only where a name says so, and says what is missing."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from ridgeline.core.errors import FileFormatError, MissingExtraError, UnknownNameError
from ridgeline.workloads.catalogue import model

CONFIG = """{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "num_hidden_layers": 2,
"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 100,
"max_position_embeddings": 512, "torch_dtype": "bfloat16", "auto_map": {"AutoModel": "code.Evil"}}"""


def fake_hub(monkeypatch: pytest.MonkeyPatch, path: Path | None) -> list[str]:
    """A `huggingface_hub` that hands out `path`, or fails as the real one does; the ids that it was asked for."""
    asked: list[str] = []
    hub, errors = ModuleType("huggingface_hub"), ModuleType("huggingface_hub.errors")
    for name in ("HfHubHTTPError", "HFValidationError", "LocalEntryNotFoundError"):
        setattr(errors, name, type(name, (Exception,), {}))

    def download(*, repo_id: str, filename: str, revision: str | None) -> str:
        asked.append(f"{repo_id}/{filename}")
        if path is None:
            raise errors.HfHubHTTPError("404 Client Error\nfor url")
        return str(path)

    hub.hf_hub_download = download  # type: ignore[attr-defined]
    hub.errors = errors  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    return asked


def test_a_configuration_comes_from_the_hub_when_the_name_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(CONFIG)
    asked = fake_hub(monkeypatch, tmp_path / "config.json")
    found = model("hub:someone/tiny-llama-of-tests")
    assert asked == ["someone/tiny-llama-of-tests/config.json"]
    assert found.hidden == 64
    assert any("auto_map" in note for note in found.notes)


def test_a_hub_that_has_nothing_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_hub(monkeypatch, None)
    with pytest.raises(FileFormatError, match="404 Client Error"):
        model("hub:someone/absent-model-of-tests")


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"ridgeline\[hub\]"):
        model("hub:someone/other-model-of-tests")


def test_an_unknown_name_never_asks_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = fake_hub(monkeypatch, None)
    with pytest.raises(UnknownNameError):
        model("someone/unknown-model")
    assert asked == []
