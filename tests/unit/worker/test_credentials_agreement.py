"""A settings file in a Secret means the same credentials to the worker and to the operator."""

import base64
from pathlib import Path

import pytest

from computepool_api.credentials import Credentials
from computepool_operator.pool import CredentialsSecretRef
from computepool_operator.secrets import SecretIncomplete, read_credentials
from computepool_worker.credentials import CredentialsUnreadable, read_directory
from computepool_worker.settings import SettingsError, load

REFERENCE = CredentialsSecretRef(name="compute", settings_key="settings.yaml")
REST = "\napi_url: http://x\nshared_basedir: /x\nscratch_basedir: /x\n"

# Each with what both read; None: no credentials.
FILES = {
    "identifier: lab\nkey: word": ("lab", "word"),
    "identifier: lab\nkey: 'in quotes'": ("lab", "in quotes"),
    "identifier: lab\nkey: 12345678": ("lab", "12345678"),
    "identifier: 007\nkey: 0123": ("007", "0123"),
    "identifier: lab\nkey: 1_000": ("lab", "1_000"),
    "identifier: lab\nkey: 0x1F": ("lab", "0x1F"),
    "identifier: lab\nkey: 1e5": ("lab", "1e5"),
    "identifier: lab\nkey: 12.50": ("lab", "12.50"),
    "identifier: lab\nkey: .inf": ("lab", ".inf"),
    "identifier: lab\nkey: 2026-11-24": ("lab", "2026-11-24"),
    "identifier: lab\nkey: 12:30:45": ("lab", "12:30:45"),
    "identifier: yes\nkey: no": ("yes", "no"),
    "identifier: lab\nkey: true": ("lab", "true"),
    "identifier: lab\nkey: ${NOT} a variable": ("lab", "${NOT} a variable"),
    "init:\n  identifier: 1\n  key: 2\nstart:\n  max_tasks: 1": ("1", "2"),
    "init:\n  identifier: lab\n  key: word\nlogging:\n  level: INFO": ("lab", "word"),
    '{"identifier": "lab", "key": 123}': ("lab", "123"),
    "{identifier: lab, key: word}": ("lab", "word"),
    "identifier: &id lab\nkey: *id": ("lab", "lab"),
    "identifier: lab\nkey: a\nkey: b": ("lab", "b"),
    "identifier: lab\nkey:": None,
    "identifier: lab\nkey: ''": None,
    "identifier: lab\nkey: [word]": None,
    "identifier: lab\nkey: {word: word}": None,
    "identifier: lab": None,
    "start:\n  identifier: lab\n  key: word": None,
    "identifier: lab\ninit:\n  key: word": None,
    "identifier: lab\nkey: 'open": None,
    "identifier: !!python/name:os.system\nkey: word": None,
    "- identifier\n- key": None,
    "word": None,
}


@pytest.mark.parametrize("text", FILES, ids=repr)
def test_worker_and_operator_read_the_same(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.yaml").write_text(text)
    data = {"settings.yaml": base64.b64encode(text.encode()).decode()}
    wanted = FILES[text]
    if wanted is None:
        with pytest.raises(CredentialsUnreadable):
            read_directory(tmp_path)
        with pytest.raises(SecretIncomplete):
            read_credentials({"data": data}, REFERENCE)
    else:
        assert read_directory(tmp_path) == Credentials(*wanted)
        assert read_credentials({"data": data}, REFERENCE) == Credentials(*wanted)


@pytest.mark.parametrize(
    "text", [text for text, found in FILES.items() if found and text.startswith("identifier")]
)
def test_a_workers_own_settings_file_reads_so_too(tmp_path: Path, text: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text + REST)
    settings = load(path, {}, {"NOT": "not"})
    assert settings.identifier is not None
    assert settings.key is not None
    expected = [value.replace("${NOT}", "not") for value in FILES[text] or ()]
    assert [settings.identifier, settings.key] == expected


def test_what_is_no_text_at_all_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("identifier: lab\nkey: [s3cret]" + REST)
    with pytest.raises(SettingsError, match="key must be text") as caught:
        load(path, {})
    assert "s3cret" not in str(caught.value)
