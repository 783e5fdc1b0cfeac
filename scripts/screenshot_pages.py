"""The pages to photograph, and how to get there. The pages of docs/staff/ show each of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from scripts.screenshot_scene import Scene

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"

# In CSS pixels.
WIDTH, HEIGHT = 1280, 860

# A picture is `<name>-<theme>.webp`.
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


def _no_action(_page: "Page", _scene: "Scene") -> None:
    pass


@dataclass(frozen=True)
class Picture:
    """A page: the user who opens it, the address, and the steps before the picture is taken."""

    name: str
    path: "Callable[[Scene], str]"
    user: str = "officer"
    then: "Callable[[Page, Scene], None]" = _no_action
    status: int = 200


def _look_up(page: "Page", scene: "Scene") -> None:
    page.get_by_label("Search by").select_option(label="UCI value")
    page.get_by_label("Text").fill(scene.deleted_value)
    page.get_by_role("button", name="Look up").click()
    page.locator("text=deleted").first.wait_for()


def _preview(page: "Page", scene: "Scene") -> None:
    page.get_by_role("textbox", name="UCI value").fill(scene.open_value)
    page.get_by_label("Delete: erase their data").check()
    page.get_by_role("button", name="Preview").click()
    page.get_by_role("button", name="File the deletion").wait_for()


def _preview_many(page: "Page", scene: "Scene") -> None:
    page.get_by_label("Delete: erase their data").check()
    page.get_by_label("Paste values, one per line").fill("\n".join(scene.many_values))
    page.get_by_role("button", name="Preview").click()
    page.get_by_role("button", name="File the deletions").wait_for()


def _approve(page: "Page", _scene: "Scene") -> None:
    page.get_by_role("button", name="Approve").click()
    page.get_by_role("dialog").wait_for()


def _redact(page: "Page", _scene: "Scene") -> None:
    for box in page.get_by_role("checkbox", name="Select this message of User").all()[:2]:
        box.check()
    page.get_by_label("Reason").select_option("payment_data")
    page.get_by_role("button", name="Redact selected messages").click()
    page.get_by_role("button", name="Redact 2 messages").wait_for()


def _save_period(page: "Page", _scene: "Scene") -> None:
    page.get_by_label("Delete conversations after").select_option(label="Another number of days")
    page.get_by_label("Number of days").fill("45")
    page.get_by_role("button", name="Save period").click()
    page.get_by_label("to confirm").wait_for()


def _read_pages(page: "Page", scene: "Scene") -> None:
    page.goto((scene.pages / "page-1.html").as_uri())


def _of_request(name: str) -> "Callable[[Scene], str]":
    return lambda scene: f"/admin/requests/{scene.requests[name]}/"


PICTURES = (
    Picture("second-factor", lambda _: "/admin/second-factor/set-up/"),
    Picture("dashboard", lambda scene: f"/admin/?chatbot={scene.slug}"),
    Picture("conversations", lambda scene: f"/admin/conversations/?chatbot={scene.slug}"),
    Picture("transcript", lambda scene: f"/admin/conversations/{scene.conversation}/"),
    Picture("redact", lambda scene: f"/admin/conversations/{scene.conversation}/", then=_redact),
    Picture("gone", lambda scene: f"/admin/conversations/{scene.deleted_conversation}/", status=410),
    Picture("lookup", lambda scene: f"/admin/lookup/?chatbot={scene.slug}", then=_look_up),
    Picture("settings", lambda scene: f"/admin/settings/{scene.slug}/", "superuser"),
    Picture("retention", lambda scene: f"/admin/settings/{scene.slug}/retention/", "superuser", _save_period),
    Picture("file", lambda scene: f"/admin/file/{scene.slug}/"),
    Picture("preview", lambda scene: f"/admin/file/{scene.slug}/", then=_preview),
    Picture("preview-many", lambda scene: f"/admin/file/{scene.slug}/many/", then=_preview_many),
    Picture("requests", lambda scene: f"/admin/requests/?chatbot={scene.slug}"),
    Picture("due", lambda scene: f"/admin/due/?chatbot={scene.slug}"),
    Picture("request-held", _of_request("held"), then=_approve),
    Picture("request-failed", _of_request("failed")),
    Picture("request-completed", _of_request("completed")),
    Picture("export-pages", _of_request("exported_too"), then=_read_pages),
    Picture("extracts", lambda scene: f"/admin/extracts/?chatbot={scene.slug}"),
    Picture("callbacks", lambda scene: f"/admin/callbacks/?chatbot={scene.slug}"),
    Picture("changelog", lambda scene: f"/admin/changelog/?chatbot={scene.slug}"),
)
