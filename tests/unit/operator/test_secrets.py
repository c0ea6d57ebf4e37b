"""Credentials out of a Secret in either form, and messages that hold nothing of it."""

import base64
from dataclasses import dataclass
from typing import Any

import pytest
from unit.operator.builders import table

from computepool_operator.pool import CredentialsSecretRef
from computepool_operator.secrets import SecretIncomplete, read_credentials

SECRET_KEY = "s3cr3t-of-the-lab"
PAIR = CredentialsSecretRef(name="compute")
FILE = CredentialsSecretRef(name="compute", settings_key="settings.yaml")


def secret(**data: str | bytes) -> dict[str, Any]:
    """A Secret object; `__` in a name stands for a dot."""
    return {
        "metadata": {"name": "compute"},
        "data": {
            name.replace("__", "."): base64.b64encode(
                value.encode() if isinstance(value, str) else value
            ).decode()
            for name, value in data.items()
        },
    }


def settings(text: str) -> dict[str, Any]:
    return secret(settings__yaml=text)


FLAT = f"""
api_url: https://compute.example.org
identifier: lab
key: {SECRET_KEY}
scopes: ["*-*-*"]
"""
NESTED = f"""
init:
  identifier: lab
  key: {SECRET_KEY}
  shared_basedir: ./shared
start:
  max_tasks: 1
"""


@dataclass(frozen=True)
class Good:
    secret: dict[str, Any]
    reference: CredentialsSecretRef
    key: str = SECRET_KEY


READ = {
    "two keys": Good(secret(identifier="lab", key=SECRET_KEY), PAIR),
    "two keys that an editor ended with a newline": Good(
        secret(identifier="lab\n", key=f"{SECRET_KEY}\n"), PAIR
    ),
    "two keys of other names": Good(
        secret(user="lab", password=SECRET_KEY),
        CredentialsSecretRef(name="compute", identifier_key="user", key_key="password"),
    ),
    "two keys among others": Good(
        secret(identifier="lab", key=SECRET_KEY, settings__yaml="key: other"), PAIR
    ),
    "a settings file as since 0.8": Good(settings(FLAT), FILE),
    "a settings file as before 0.8": Good(settings(NESTED), FILE),
    "a settings file in JSON": Good(
        settings(f'{{"identifier": "lab", "key": "{SECRET_KEY}"}}'), FILE
    ),
    "a settings file with all its lines indented": Good(
        settings(f"  identifier: lab\n  key: {SECRET_KEY}\n"), FILE
    ),
    "a key that YAML would read as a number": Good(
        settings("identifier: lab\nkey: 0123"), FILE, "0123"
    ),
    "a key of letters that are not ASCII": Good(
        secret(identifier="lab", key="schlüssel"), PAIR, "schlüssel"
    ),
}


@table(READ)
def test_read_from(case: Good) -> None:
    credentials = read_credentials(case.secret, case.reference)
    assert (credentials.identifier, credentials.key) == ("lab", case.key)


@dataclass(frozen=True)
class Bad:
    """What is missing, and what the message must tell."""

    secret: dict[str, Any]
    reference: CredentialsSecretRef
    says: str


MISSING = {
    "a Secret without data": Bad(
        {"metadata": {}}, PAIR, "the Secret compute has no key identifier"
    ),
    "a Secret with null for data": Bad({"data": None}, PAIR, "has no key identifier"),
    "a Secret without the identifier": Bad(
        secret(key=SECRET_KEY), PAIR, "the Secret compute has no key identifier: add it, or name"
    ),
    "a Secret without the key": Bad(secret(identifier="lab"), PAIR, "has no key key"),
    "an empty key": Bad(secret(identifier="lab", key=" \n"), PAIR, "is empty: fill it"),
    "a key that is no text": Bad(
        secret(identifier="lab", key=b"\xff\xfe" + SECRET_KEY.encode()), PAIR, "is not text"
    ),
    "a key that is no base64": Bad(
        {"data": {"identifier": "bGFi", "key": f"*{SECRET_KEY}*x"}}, PAIR, "is not text"
    ),
    "no settings file": Bad(secret(identifier="lab"), FILE, "has no key settings.yaml"),
    "a settings file without the key": Bad(settings("identifier: lab"), FILE, "does not set key"),
    "a settings file with neither": Bad(settings("a: 1"), FILE, "identifier and key: add it"),
    "a settings file with an empty key": Bad(settings("identifier: lab\nkey: ''"), FILE, "set key"),
    "a nested settings file without the key": Bad(
        settings("init:\n  identifier: lab"), FILE, "does not set key"
    ),
    "a settings file that is no YAML": Bad(
        settings(f"key: [{SECRET_KEY}\n  : {{"), FILE, "is not YAML: mend the file"
    ),
    "a settings file that is a list": Bad(settings(f"- {SECRET_KEY}"), FILE, "holds no settings"),
    "a settings file that is a word": Bad(settings(SECRET_KEY), FILE, "holds no settings"),
    "a settings file with a key that is a list": Bad(
        settings(f"identifier: lab\nkey: [{SECRET_KEY}]"), FILE, "does not set key"
    ),
}


@table(MISSING)
def test_missing_in(case: Bad) -> None:
    with pytest.raises(SecretIncomplete) as caught:
        read_credentials(case.secret, case.reference)
    assert case.says in str(caught.value)
    # The traceback is logged as well: nothing of the Secret in it, nor in what it was raised from.
    assert SECRET_KEY not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_credentials_are_not_shown() -> None:
    credentials = read_credentials(settings(FLAT), FILE)
    assert SECRET_KEY not in repr(credentials)
    assert SECRET_KEY not in str(credentials)
