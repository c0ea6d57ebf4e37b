"""Every page: its code can be used as it stands, its links lead somewhere."""

import subprocess

import pytest
import yaml

from written.manifests import DEPLOY, ROOT, complaints, is_overlay_part, is_pool, read
from written.merging import merged
from written.pages import PAGES, Block, Page, anchor, page, pools_in

LANGUAGES = {"bash", "mermaid", "python", "text", "yaml"}


def blocks(*languages: str) -> list[Block]:
    return [block for page in PAGES for block in page.blocks(*languages)]


def place(block: Block) -> str:
    return f"{block.page}:{block.line}"


def test_there_are_pages() -> None:
    assert {"README.md", "CHANGELOG.md", "docs/install.md", "docs/runbook.md"} <= {
        page.name for page in PAGES
    }
    assert len(blocks("bash")) > 20
    assert len(blocks("yaml")) > 3


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_code_says_what_it_is(page: Page) -> None:
    assert [place(block) for block in page.blocks() if block.language not in LANGUAGES] == []


@pytest.mark.parametrize("block", blocks("yaml"), ids=place)
def test_yaml_can_be_read_and_pools_are_valid(block: Block) -> None:
    documents = read(block.text)
    assert documents
    for document in documents:
        if is_pool(document):
            assert complaints(document) == []
        elif set(document) == {"spec"}:
            (pool,) = read((DEPLOY / "examples" / "pool.yaml").read_text())
            assert complaints({**pool, "spec": merged(pool["spec"], document["spec"])}) == []
        else:
            assert document.get("kind") or is_overlay_part(document)


def test_there_are_pools_in_the_documentation() -> None:
    assert pools_in(page("README.md"))
    assert pools_in(page("docs/pool-reference.md"))


def test_every_block_of_python_compiles() -> None:
    for block in blocks("python"):
        compile(block.text, place(block), "exec")


def test_every_shell_block_is_well_formed() -> None:
    for block in blocks("bash"):
        done = subprocess.run(
            ["bash", "-n"], input=block.text, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{place(block)}: {done.stderr}"


def test_shell_blocks_apply_files_that_exist() -> None:
    folders = {
        words[index + 1]
        for block in blocks("bash")
        for line in block.text.splitlines()
        for words in [line.split()]
        for index, word in enumerate(words)
        if word == "-k" and words[0] == "kubectl"
    }
    assert len(folders) > 3
    for folder in folders:
        assert (ROOT / folder / "kustomization.yaml").exists(), folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Page) -> None:
    for target in page.links():
        if target.startswith("https://"):
            continue
        path, _, fragment = target.partition("#")
        found = page.path if not path else (page.path.parent / path).resolve()
        assert found.exists(), target
        if fragment:
            assert fragment in Page(found).anchors(), target


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, new = set(), {page("README.md").path}
    while new:
        reached |= new
        targets = {
            (path.parent / target.partition("#")[0]).resolve()
            for path in new
            for target in Page(path).links()
            if not target.startswith(("https://", "#"))
        }
        new = {path for path in targets if path.suffix == ".md"} - reached
    assert {page.path for page in PAGES} == reached


def test_decisions_are_listed_and_have_their_three_parts() -> None:
    index = page("docs/decisions/README.md")
    records = sorted(path.name for path in (ROOT / "docs/decisions").glob("0*.md"))
    assert [target for target in index.links() if target.startswith("0")] == records
    for name in records:
        record = page(f"docs/decisions/{name}")
        (title,) = record.headings(1)
        assert title.startswith(f"{name[:4]}: ")
        assert f"- [{title}]({name})" in index.prose()
        assert record.headings(2) == ["Context", "Decision", "Consequences"]


def test_headings_get_the_anchors_that_github_gives_them() -> None:
    assert anchor("What `kubectl get computepools` shows") == "what-kubectl-get-computepools-shows"
    assert anchor("Freeing a manager's name") == "freeing-a-managers-name"
    assert anchor("0001: A worker") == "0001-a-worker"


def test_kustomizations_in_pages_name_images_that_the_base_has() -> None:
    base = yaml.safe_load((DEPLOY / "base" / "kustomization.yaml").read_text())
    known = {image["newName"] for image in base["images"]}
    named = {
        image["name"]
        for block in blocks("yaml")
        for document in read(block.text)
        if document.get("kind") == "Kustomization"
        for image in document.get("images", [])
    }
    assert named == known
