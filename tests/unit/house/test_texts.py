"""Texts are about the project: no registries, no machine's paths, no dead links."""

import re
from pathlib import Path

# Put together here, so that this file does not contain what it looks for.
REGISTRIES = [
    ".".join(parts)
    for parts in [
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("crates", "io"),
        ("proxy", "golang", "org"),
        ("ghcr", "io"),
        ("quay", "io"),
        ("gcr", "io"),
        ("docker", "io"),
        ("anaconda", "org"),
        ("download", "pytorch", "org"),
    ]
]
UNMEASURED = "MEASURE" + ":"
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:work|root|home|Users)/[\w.-]+")
LINK = re.compile(r"\]\((?!https?:|mailto:|#)(?P<target>[^)#\s]+)(?:#[^)\s]*)?\)")
CODE = re.compile(r"`[^`\n]*`")
"""In code, brackets are brackets."""

DECISION_SECTIONS = [
    "Context",
    "Decision",
    "Alternatives refused",
    "Consequences",
    "What would change our mind",
]


def texts(root: Path, files: list[Path]) -> dict[Path, str]:
    readable = {}
    for path in files:
        data = (root / path).read_bytes()
        if b"\0" not in data:
            readable[path] = data.decode("utf-8")
    return readable


def test_texts_name_no_package_registry(root: Path, files: list[Path]) -> None:
    found = [
        (path, host)
        for path, text in texts(root, files).items()
        for host in REGISTRIES
        if host in text
    ]
    assert found == []


def test_texts_name_no_path_of_a_machine(root: Path, files: list[Path]) -> None:
    found = [
        (path, match[0])
        for path, text in texts(root, files).items()
        for match in MACHINE_PATH.finditer(text)
    ]
    assert found == []


def test_texts_leave_nothing_to_be_measured(root: Path, files: list[Path]) -> None:
    found = [
        (path, line)
        for path, text in texts(root, files).items()
        for line in text.splitlines()
        if UNMEASURED in line
    ]
    assert found == []


def test_links_lead_to_files_that_exist(root: Path, files: list[Path]) -> None:
    dead = [
        (path, match["target"])
        for path, text in texts(root, files).items()
        if path.suffix == ".md"
        for match in LINK.finditer(CODE.sub("", text))
        if not (root / path.parent / match["target"]).exists()
    ]
    assert dead == []


def test_generated_files_say_so_and_are_marked(root: Path, files: list[Path]) -> None:
    attributes = (root / ".gitattributes").read_text(encoding="utf-8")
    assert "docs/reference/** linguist-generated" in attributes
    pages = [path for path in files if path.is_relative_to("docs/reference")]
    assert pages
    unmarked = [p for p in pages if "DO NOT EDIT" not in (root / p).read_text(encoding="utf-8")]
    assert unmarked == []


def test_decisions_are_numbered_and_complete(root: Path) -> None:
    pages = sorted((root / "docs" / "decisions").glob("*.md"))
    numbers = [int(page.name[:4]) for page in pages]
    assert numbers
    assert numbers == sorted(set(numbers)), "a number stands for one decision"
    for page in pages:
        sections = re.findall(r"^## (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert sections == DECISION_SECTIONS, page.name


def test_licence_is_the_whole_apache_licence(root: Path) -> None:
    text = (root / "LICENSE").read_text(encoding="utf-8")
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
