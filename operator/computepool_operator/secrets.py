"""Reading the credentials of a compute identity out of a Secret, in either of its forms. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import yaml

from computepool_api.credentials import Credentials

from .pool import CredentialsSecretRef


class SecretIncomplete(ValueError):
    """The Secret does not hold what the pool says it does. The message holds nothing of it."""


def read_credentials(secret: Mapping[str, Any], reference: CredentialsSecretRef) -> Credentials:
    """Read identifier and key from a Secret object.

    They are two keys of the Secret, or stand in a compute-service settings file: flat, as since
    alchemiscale 0.8, or nested under `init`, as before.

    Raises:
        SecretIncomplete: something is missing; the message says what and where.

    """
    pair = reference.pair()
    if pair is not None:
        identifier, key = (_value(secret, reference.name, name).strip() for name in pair)
        return Credentials(identifier=identifier, key=key)
    name = reference.settings_key or ""
    where = f"the settings file {name} in the Secret {reference.name}"
    try:
        settings = _load(_value(secret, reference.name, name))
    except yaml.YAMLError:
        raise SecretIncomplete(f"{where} is not YAML: mend the file") from None
    if isinstance(settings, Mapping) and isinstance(settings.get("init"), Mapping):
        settings = settings["init"]
    if not isinstance(settings, Mapping):
        raise SecretIncomplete(f"{where} holds no settings: it must set identifier and key")
    found = {field: settings.get(field) for field in ("identifier", "key")}
    texts = {field: value for field, value in found.items() if value and isinstance(value, str)}
    if missing := " and ".join(field for field in found if field not in texts):
        raise SecretIncomplete(f"{where} does not set {missing}: add it")
    return Credentials(**texts)


def _load(text: str) -> object:
    """Read YAML with every value as the text that it is: a key of digits is no number."""
    loader = yaml.BaseLoader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _value(secret: Mapping[str, Any], secret_name: str, name: str) -> str:
    encoded = (secret.get("data") or {}).get(name)
    if not encoded:
        raise SecretIncomplete(
            f"the Secret {secret_name} has no key {name}: add it, or name another key in "
            "spec.computeAPI.credentialsSecretRef"
        )
    try:
        value = base64.b64decode(encoded).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise SecretIncomplete(f"the key {name} of the Secret {secret_name} is not text") from None
    if not value.strip():
        raise SecretIncomplete(f"the key {name} of the Secret {secret_name} is empty: fill it")
    return value
