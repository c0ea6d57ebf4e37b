"""When a CA bundle is read again."""

import shutil
from pathlib import Path

import certifi

from computepool_api.trust import Trust


def test_a_bundle_is_read_again_once_for_each_change(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.crt"
    shutil.copy(certifi.where(), bundle)
    trust = Trust(str(bundle))
    assert not trust.renew()
    for _ in range(2):
        before = trust.context
        shutil.copy(certifi.where(), tmp_path / "new")
        (tmp_path / "new").replace(bundle)
        assert trust.renew()
        assert trust.context is not before
        assert not trust.renew()


def test_a_bundle_behind_a_link_is_read_again_when_the_link_moves(tmp_path: Path) -> None:
    for name in ("first", "second"):
        shutil.copy(certifi.where(), tmp_path / name)
    bundle = tmp_path / "ca.crt"
    bundle.symlink_to("first")
    trust = Trust(str(bundle))
    bundle.unlink()
    bundle.symlink_to("second")
    assert trust.renew()


def test_what_is_no_file_is_never_read_again() -> None:
    assert not Trust(verify=True).renew()
    assert not Trust(verify=False).renew()
