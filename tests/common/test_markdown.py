"""Markdown files as the text of pages."""

import pytest

from common.markdown import EXAMPLE_ORIGIN, render


def shown(text: str) -> str:
    return render(f"# A\n\n{text}\n", slug="shop", origin="https://x.example", target={"a.md": "/a/"}.get).html


def test_comments_and_lists_for_the_generator_of_the_site_are_left_out() -> None:
    table = "<!-- table: x -->\n| a |\n| --- |\n| 1 |\n<!-- end of table -->"

    html = shown(
        f"{table}\n\nText <!-- aside --> on.\n\n```sh\nls\n```\n<!-- not run: why -->\n\n```{{toctree}}\nb\n```"
    )

    assert "<td>1</td>" in html
    assert "Text  on." in html
    assert ">ls</pre>" in html
    for hidden in ("<!--", "aside", "toctree", "not run"):
        assert hidden not in html


@pytest.mark.parametrize("html", ["<script>x</script>", "a <b>c</b>", "<!-- x --><img src=y>"])
def test_other_html_is_refused(html: str) -> None:
    with pytest.raises(ValueError, match="HTML"):
        shown(html)


def test_a_link_to_a_page_that_is_not_served_becomes_text() -> None:
    assert shown("[one](a.md), [two](b.md)") == '<p><a href="/a/">one</a>, two</p>\n'


def test_code_is_about_the_reader_and_escaped() -> None:
    html = shown(f"`{EXAMPLE_ORIGIN}/acme`, acme-files, `<acme>`")

    assert html == "<p><code>https://x.example/shop</code>, acme-files, <code>&lt;shop&gt;</code></p>\n"
