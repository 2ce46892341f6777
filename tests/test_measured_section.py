import pytest

from tests.benchmarks.measured_section import BENCHMARKS
from tests.benchmarks.measured_section import write_measured

PAGE = "# All\n\nprose\n\n<!-- a begins -->\nold\n<!-- a ends -->\n\nmore ä\n"


def test_only_what_stands_between_the_marks_is_replaced(tmp_path):
    file = tmp_path / "page.md"
    file.write_text(PAGE, encoding="utf-8")
    for _ in range(2):
        write_measured("a", "| new × |\n", file)
        assert file.read_text(encoding="utf-8") == (
            "# All\n\nprose\n\n<!-- a begins -->\n\n| new × |\n\n<!-- a ends -->\n\n"
            "more ä\n"
        )


@pytest.mark.parametrize(
    "page",
    [
        "no marks",
        "<!-- a begins -->",
        "<!-- a ends --><!-- a begins -->",
        PAGE + PAGE,
    ],
)
def test_page_without_both_marks_is_left_alone(tmp_path, page):
    file = tmp_path / "page.md"
    file.write_text(page, encoding="utf-8")
    with pytest.raises(ValueError, match="must hold '<!-- a begins -->' and then"):
        write_measured("a", "new", file)
    assert file.read_text(encoding="utf-8") == page


@pytest.mark.parametrize("name", ["exact retrieval", "a million images", "indexes"])
def test_benchmarks_has_the_marks_that_are_written_to(name):
    text = BENCHMARKS.read_text(encoding="utf-8")
    begins, ends = f"<!-- {name} begins -->", f"<!-- {name} ends -->"
    assert text.count(begins) == text.count(ends) == 1
    assert text.index(begins) < text.index(ends)
