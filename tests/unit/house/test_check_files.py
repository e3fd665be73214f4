"""What no file of the project has, found in files made for it."""

from pathlib import Path

import pytest

from check_files import LARGEST_BYTES, main


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        pytest.param("a.py", b"x = 1 \n", ":1: blanks at the end", id="trailing-blank"),
        pytest.param("a.py", b"x = 1", ": does not end with one newline", id="no-newline"),
        pytest.param("a.py", b"x = 1\n\n", ": does not end with one newline", id="two-newlines"),
        pytest.param("a.md", b"<" * 7 + b" ours\n", ":1: left-over of a merge", id="conflict"),
        pytest.param(
            "a.bin", b"\0" * (LARGEST_BYTES + 1), ": 4,194,305 bytes; keep it under", id="large"
        ),
    ],
)
def test_main_bad_file_is_named_with_its_place(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: bytes,
    complaint: str,
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert main([str(path)]) == 1
    assert capsys.readouterr().out.startswith(str(path) + complaint)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("a.py", b"x = 1\n", id="text"),
        pytest.param("a.json", b"{}", id="written-by-a-machine"),
        pytest.param("a.py", b"", id="empty"),
        pytest.param("a.bin", b"\0 ", id="binary"),
    ],
)
def test_main_good_file_passes(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert main([str(path)]) == 0


def test_main_deleted_file_is_no_problem(tmp_path: Path) -> None:
    assert main([str(tmp_path / "gone.py")]) == 0
