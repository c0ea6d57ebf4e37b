from pathlib import Path

import pytest

from computepool_api.credentials import Credentials
from computepool_worker.credentials import CredentialsUnreadable, read_directory, source_for
from computepool_worker.settings import Settings, build

WANTED = Credentials("compute", "s3cret-key")
SETTINGS = "api_url: https://x\nidentifier: compute\nkey: s3cret-key\n"
NESTED = "init:\n  identifier: compute\n  key: s3cret-key\nstart:\n  max_tasks: 1\n"


@pytest.mark.parametrize(
    "files",
    [
        {"identifier": "compute", "key": "s3cret-key"},
        {"identifier": "compute\n", "key": " s3cret-key \n"},
        {"identifier": "compute", "key": "s3cret-key", "settings.yaml": "identifier: other"},
        {"settings.yaml": SETTINGS},
        {"anything": NESTED},
        {"a.yaml": "name: x\n", "b.yaml": SETTINGS},
        {"settings.json": '{"identifier": "compute", "key": "s3cret-key"}'},
        {"a-certificate.pem": "-----BEGIN", "settings.yaml": SETTINGS},
    ],
)
def test_both_forms_of_the_secret(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert read_directory(tmp_path) == WANTED


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "found nothing"),
        ({"identifier": "compute"}, "found identifier"),
        ({"identifier": "compute", "key": ""}, "key is empty"),
        ({"settings.yaml": "identifier: compute\n"}, "found settings.yaml"),
        ({"settings.yaml": "identifier: compute\nkey: [12345]\n"}, "found settings.yaml"),
        ({"settings.yaml": "key: 's3cret-key\n"}, "found settings.yaml"),
        ({".hidden": SETTINGS}, "found nothing"),
    ],
)
def test_what_is_missing(tmp_path: Path, files: dict[str, str], says: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(CredentialsUnreadable) as caught:
        read_directory(tmp_path)
    assert says in str(caught.value)
    assert "s3cret-key" not in str(caught.value)


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CredentialsUnreadable, match="cannot be read: No such file"):
        read_directory(tmp_path / "nothing")


def test_a_mounted_secret_is_read_through_its_version(tmp_path: Path) -> None:
    """As the kubelet mounts it: links into a hidden directory that is swapped as a whole."""
    version = tmp_path / "..2026_11_24"
    version.mkdir()
    (tmp_path / "..data").symlink_to(version.name)
    for name, text in (("identifier", "compute"), ("key", "s3cret-key")):
        (version / name).write_text(text)
        (tmp_path / name).symlink_to(f"..data/{name}")
    assert read_directory(tmp_path) == WANTED


def test_the_source_reads_again_each_time(tmp_path: Path) -> None:
    (tmp_path / "identifier").write_text("compute")
    (tmp_path / "key").write_text("old")
    source = source_for(settings(credentials_dir=str(tmp_path)))
    assert source().key == "old"
    (tmp_path / "key").write_text("new")
    assert source().key == "new"


def test_the_settings_own_credentials() -> None:
    assert source_for(settings(identifier="compute", key="s3cret-key"))() == WANTED


def settings(**more: object) -> Settings:
    return build(
        {
            "api_url": "https://x",
            "name": "x",
            "shared_basedir": "/x",
            "scratch_basedir": "/x",
            **more,
        },
        source="settings.yaml",
    )
