"""Configurations by hub id, through `huggingface_hub` where it is installed; only this importer uses the network."""

from __future__ import annotations

from ridgeline.core.errors import FileFormatError, MissingExtraError
from ridgeline.workloads.importers.huggingface import from_config
from ridgeline.workloads.model import Model


def from_hub(model_id: str, *, revision: str | None = None) -> Model:
    """The model whose `config.json` stands in the hub repository `model_id`. Only that file is fetched.

    Raises:
        MissingExtraError: `huggingface_hub` is not installed.
        FileFormatError: no such repository or file, no network, or no access.
    """
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingExtraError(
            "fetching a configuration needs huggingface_hub",
            at="model",
            got=model_id,
            fix="pip install 'ridgeline[hub]'",
        ) from error
    try:
        path = hf_hub_download(repo_id=model_id, filename="config.json", revision=revision)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FileFormatError(
            f"the hub gave no configuration: {reason}", at="model", got=model_id, fix="check the id, or give a path"
        ) from error
    return from_config(path, name=model_id)
