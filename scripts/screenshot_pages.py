"""The pages to photograph, and how to get there. docs/console.md shows each of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from scripts.screenshot_scene import Scene

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"


@dataclass(frozen=True)
class Look:
    """A screen and its colours; width and height in CSS pixels."""

    size: str
    width: int
    height: int
    scale: float
    dark: bool

    @property
    def name(self) -> str:
        return f"{self.size}-{'dark' if self.dark else 'light'}"


LOOKS = tuple(
    Look(size, width, height, scale, dark)
    for size, width, height, scale in (("wide", 1280, 860, 1), ("narrow", 360, 720, 1.5))
    for dark in (False, True)
)


def _stay(_page: "Page", _scene: "Scene") -> None:
    pass


@dataclass(frozen=True)
class Picture:
    """A page: who opens it, where, and the steps before the picture is taken."""

    name: str
    path: "Callable[[Scene], str]"
    who: str = "officer"
    then: "Callable[[Page, Scene], None]" = _stay
    status: int = 200


def _type_the_code(page: "Page", scene: "Scene") -> None:
    page.get_by_label("Username").fill(scene.careful.user)
    page.get_by_label("Password").fill(scene.careful.password)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/login/code/**")


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


def _create_variable(page: "Page", _scene: "Scene") -> None:
    page.get_by_role("button", name="Create variable").click()
    page.get_by_role("dialog").wait_for()


def _save_period(page: "Page", _scene: "Scene") -> None:
    page.get_by_label("Delete conversations after").select_option(label="3 months")
    page.get_by_role("button", name="Save period").click()
    page.get_by_label("to confirm").wait_for()


def _closed(_scene: "Scene") -> str:
    from scripts import screenshot_scene  # noqa: PLC0415  needs django.setup()

    screenshot_scene.set_closed(is_closed=True)
    return "/admin/"


def _open_again(_page: "Page", _scene: "Scene") -> None:
    from scripts import screenshot_scene  # noqa: PLC0415  as above

    screenshot_scene.set_closed(is_closed=False)


def _of_request(name: str) -> "Callable[[Scene], str]":
    return lambda scene: f"/admin/requests/{scene.requests[name]}/"


PICTURES = (
    Picture("login", lambda _: "/admin/login/", "nobody"),
    Picture("closed", _closed, "nobody", _open_again, status=503),
    Picture("login-code", lambda _: "/admin/login/", "nobody", _type_the_code),
    Picture("second-factor", lambda _: "/admin/second-factor/set-up/"),
    Picture("confirm-password", lambda _: "/admin/confirm-password/?next=/admin/second-factor/"),
    Picture("dashboard", lambda scene: f"/admin/?chatbot={scene.slug}"),
    Picture("conversations", lambda scene: f"/admin/conversations/?chatbot={scene.slug}"),
    Picture("transcript", lambda scene: f"/admin/conversations/{scene.conversation}/"),
    Picture("redact", lambda scene: f"/admin/conversations/{scene.conversation}/", then=_redact),
    Picture("gone", lambda scene: f"/admin/conversations/{scene.deleted_conversation}/", status=410),
    Picture("refused", lambda scene: f"/admin/refused-identities/?chatbot={scene.slug}"),
    Picture("lookup", lambda scene: f"/admin/lookup/?chatbot={scene.slug}", then=_look_up),
    Picture("chatbots", lambda _: "/admin/chatbots/", "superuser"),
    Picture("settings", lambda scene: f"/admin/settings/{scene.slug}/", "superuser"),
    Picture("create-variable", lambda scene: f"/admin/settings/{scene.slug}/", "superuser", _create_variable),
    Picture("retention", lambda scene: f"/admin/settings/{scene.slug}/", "superuser", _save_period),
    Picture("guide", lambda scene: f"/admin/settings/{scene.slug}/guides/data-compliance/"),
    Picture("file", lambda scene: f"/admin/file/{scene.slug}/"),
    Picture("preview", lambda scene: f"/admin/file/{scene.slug}/", then=_preview),
    Picture("preview-many", lambda scene: f"/admin/file/{scene.slug}/many/", then=_preview_many),
    Picture("requests", lambda scene: f"/admin/requests/?chatbot={scene.slug}"),
    Picture("request-held", _of_request("held"), then=_approve),
    Picture("request-failed", _of_request("failed")),
    Picture("request-processing", _of_request("processing")),
    Picture("request-completed", _of_request("completed")),
    Picture("exports", lambda scene: f"/admin/exports/?chatbot={scene.slug}"),
    Picture("extracts", lambda scene: f"/admin/extracts/?chatbot={scene.slug}"),
    Picture("callbacks", lambda scene: f"/admin/callbacks/?chatbot={scene.slug}"),
    Picture("workers", lambda _: "/admin/workers/", "superuser"),
    Picture("changelog", lambda scene: f"/admin/changelog/?chatbot={scene.slug}"),
    Picture("mails", lambda _: "/admin/mails/"),
)
