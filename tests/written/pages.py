"""The pages of the documentation: their headings, links and blocks of code."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from .manifests import ROOT, Manifest, is_pool

_FENCE = re.compile(r"^( *)```(\w*)\s*$")
_HEADING = re.compile(r"^#{1,6} +(.+?)\s*$")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_RULE = re.compile(r"[|: -]+")
_CODE = re.compile(r"`[^`]*`")


Row = dict[str, str]


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code. `line` is the number of its first line."""

    page: str
    line: int
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """One page, in Markdown. `name` is its path in the repository."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    def blocks(self, *languages: str) -> list[Block]:
        """Return the blocks of code in these languages."""
        return [block for block in self._blocks() if block.language in languages]

    def prose(self) -> list[str]:
        """Return the lines that are not code."""
        lines, inside = [], False
        for line in self.path.read_text().splitlines():
            if _FENCE.match(line) or (inside and line.strip() == "```"):
                inside = not inside
            elif not inside:
                lines.append(line)
        return lines

    def anchors(self) -> set[str]:
        """Return what links may point at: headings, as GitHub names them."""
        headings = (_HEADING.match(line) for line in self.prose())
        return {anchor(found[1]) for found in headings if found}

    def links(self) -> list[str]:
        """Return the targets of all links."""
        return [target for line in self.prose() for target in _LINK.findall(_CODE.sub("``", line))]

    def headings(self, level: int) -> list[str]:
        """Return the headings of one level, in order."""
        return [
            line[level + 1 :].strip() for line in self.prose() if line.startswith("#" * level + " ")
        ]

    def tables(self, *columns: str) -> list[Row]:
        """Return the rows of all tables that have these columns and no others, in order."""
        rows: list[Row] = []
        head: list[str] = []
        for line in self.prose():
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if not line.strip().startswith("|"):
                head = []
            elif not head:
                head = cells
            elif head == list(columns) and not _RULE.fullmatch(line.strip()):
                rows.append(dict(zip(head, cells, strict=True)))
        return rows

    def _blocks(self) -> Iterator[Block]:
        start: tuple[int, str, str] | None = None
        lines: list[str] = []
        for number, line in enumerate(self.path.read_text().splitlines(), start=1):
            fence = _FENCE.match(line)
            if start is None and fence:
                start, lines = (number + 1, fence[1], fence[2]), []
            elif start is not None and line.strip() == "```":
                yield Block(self.name, start[0], start[2], "\n".join(lines) + "\n")
                start = None
            elif start is not None:
                lines.append(line.removeprefix(start[1]))
        if start is not None:
            raise ValueError(f"{self.name}:{start[0]}: the block of code has no end")


PAGES = [
    Page(path)
    for path in [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if path.exists()
]


def anchor(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    text = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def page(name: str) -> Page:
    """Return the page at a path in the repository."""
    return Page(ROOT / name)


def pools_in(page: Page) -> list[Manifest]:
    """Return the pools in a page's blocks of YAML."""
    return [
        document
        for block in page.blocks("yaml")
        for document in yaml.safe_load_all(block.text)
        if is_pool(document)
    ]
