"""What an export would hold."""

from dataclasses import dataclass

from compliance.requests.inputs import ChatbotConfig
from compliance.requests.preview.deletion import count_files
from compliance.requests.preview.subjects import Finds, Found, Options, Subjects, Totals, total


@dataclass(frozen=True)
class Export:
    """What an export would hold. `refused` is the code by which its filing would be refused now."""

    found: Totals
    files: int
    shared_left_out: int
    refused: str | None


def count(subjects: Subjects, finds: Finds, options: Options) -> Export:
    """Return what exports of these subjects together would hold of what was found of them."""
    chosen = chosen_of(subjects, finds, options)
    return Export(
        found=total(chosen),
        files=count_files(subjects.chatbot, [one.number for one in chosen]) if options.include_files else 0,
        shared_left_out=len(finds.unmarked) - len(chosen),
        refused=None if ChatbotConfig(subjects.chatbot).has_bucket else "export_destination_missing",
    )


def chosen_of(subjects: Subjects, finds: Finds, options: Options) -> list[Found]:
    """Return the conversations that an export would hold: shared ones where it says so, or names them by id."""
    is_all = options.include_shared or subjects.conversation_digests is not None
    return [one for one in finds.unmarked if is_all or not one.is_shared]
