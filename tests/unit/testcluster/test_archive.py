import hashlib
import json
import tarfile
from pathlib import Path

from testcluster import archive


def test_an_archive_is_what_docker_save_writes(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    content = archive.layer({"bin/tool": b"#!"}, {"bin/alias": "tool"})
    archive.write(path, "localhost/x:y", content, ["/bin/tool"])
    with tarfile.open(path) as tar:
        read = {member.name: tar.extractfile(member) for member in tar}
        data = {name: file.read() for name, file in read.items() if file is not None}
    (manifest,) = json.loads(data["manifest.json"])
    assert manifest["RepoTags"] == ["localhost/x:y"]
    config = json.loads(data[manifest["Config"]])
    assert config["config"]["Entrypoint"] == ["/bin/tool"]
    (layer,) = manifest["Layers"]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(data[layer]).hexdigest()}"]


def test_a_layer_has_its_folders_modes_and_links(tmp_path: Path) -> None:
    path = tmp_path / "layer.tar"
    path.write_bytes(archive.layer({"bin/tool": b"#!"}, {"bin/alias": "tool"}))
    with tarfile.open(path) as tar:
        found = {entry.name: (oct(entry.mode), entry.linkname) for entry in tar}
    assert found == {
        "bin": ("0o755", ""),
        "tmp": ("0o1777", ""),
        "bin/tool": ("0o755", ""),
        "bin/alias": ("0o644", "tool"),
    }


def test_equal_input_gives_an_equal_layer() -> None:
    assert archive.layer({"a/b": b"c"}, {}) == archive.layer({"a/b": b"c"}, {})
