"""The forms of filing, and how they find subjects. Values and ids are taken exactly as they are typed."""

import re
from collections.abc import Sequence
from typing import Any, ClassVar

from django import forms
from django.db.models import Q

from chatbots.models import Chatbot, Variable, stored_formats
from compliance.models import ComplianceRequest
from compliance.requests.selectors import MOST_CONVERSATIONS, ByConversations, ByUci, Selector
from console.common.forms import AS_TYPED, ChatbotForm, RequestedAtForm
from console.common.sealed import InvalidToken
from console.filing import pasted_values
from console.filing.drafts import Draft, load_subject
from console.filing.pasted_values import PastedValues, UnreadableValues
from conversations.messages import MAX_IDENTITIES
from conversations.models import Conversation, Identity

Kind = ComplianceRequest.Kind

ACTIONS = [("delete", "Delete: erase their data"), ("export", "Export: create a file of their data")]
KINDS = {"delete": Kind.DELETION, "export": Kind.EXPORT}

_NUMBER = re.compile(r"[0-9]{1,18}")


class KeyForm(ChatbotForm):
    """A form about chatters of a chatbot. `ucis` are the choices of the key."""

    names: ClassVar = {
        "unique_chatter_identifier_value": "value",
        "unique_chatter_identifier_key": "key",
        "conversation_ids": "ids",
    }

    key = forms.ChoiceField(required=False, error_messages={"invalid_choice": "Choose one of this chatbot's UCIs."})

    def __init__(self, *data: Any, chatbot: Chatbot, **options: Any) -> None:
        super().__init__(*data, chatbot=chatbot, **options)
        ucis = Variable.objects.filter(Q(is_uci=True) | Q(was_uci=True), chatbot=chatbot).order_by("-is_uci", "name")
        self.ucis = [(uci.name, uci.name if uci.is_uci else f"{uci.name} (former)") for uci in ucis]
        key: Any = self.fields["key"]
        key.choices = self.ucis

    def check_key(self, key: str | None, missing: str) -> bool:
        """Return whether a key is chosen, or else show an error."""
        if not self.ucis:
            self.add_error(None, "This chatbot has no UCI. Choose one in its settings first.")
        elif not key:
            self.add_error("key", missing)
        return bool(self.ucis and key)


class SubjectForm(KeyForm):
    """A form with a field `whom`, whose subject is a chatter or conversations."""

    value = forms.CharField(required=False, strip=False, widget=forms.TextInput(attrs=AS_TYPED))
    ids = forms.CharField(required=False, strip=False, widget=forms.Textarea(attrs={**AS_TYPED, "rows": 4}))

    def typed_subject(self, given: dict[str, Any]) -> Selector | None:
        """Return the chatter or the conversations, or show an error."""
        if given["whom"] == "ids":
            if ids := tuple(line for line in re.split(r"\r\n|\r|\n", given["ids"]) if line):
                return ByConversations(ids)
            self.add_error("ids", "Enter the IDs, one per line.")
        elif not given["value"]:
            self.add_error("value", "Enter the value exactly as it is stored.")
        elif self.check_key(given["key"], "Choose the UCI that has this value."):
            return ByUci(given["key"], given["value"])
        return None


class FilingForm(KeyForm, RequestedAtForm):
    """The fields of both forms. They have no maximum length: browsers cut pasted text silently."""

    action = forms.ChoiceField(
        choices=ACTIONS,
        widget=forms.RadioSelect,
        error_messages={
            "required": "Choose to delete or to export.",
            "invalid_choice": "Choose to delete or to export.",
        },
    )
    erase_exports = forms.BooleanField(required=False)
    include_files = forms.BooleanField(required=False)
    include_shared = forms.BooleanField(required=False)
    csv_dialect = forms.ChoiceField(required=False, choices=Chatbot.CsvDialect.choices)
    formats = forms.MultipleChoiceField(
        required=False, choices=Chatbot.ExportFormat.choices, widget=forms.CheckboxSelectMultiple
    )
    archive = forms.BooleanField(required=False)
    reference = forms.CharField(required=False, widget=forms.TextInput(attrs=AS_TYPED))

    draft: Draft

    def __init__(self, data: Any = None, files: Any = None, *, chatbot: Chatbot, actor: str, **options: Any) -> None:
        super().__init__(data, files, chatbot=chatbot, **options)
        self.actor = actor
        self.initial.setdefault("csv_dialect", chatbot.csv_dialect)
        self.initial.setdefault("formats", chatbot.export_formats.split())

    def clean_csv_dialect(self) -> str:
        """Return the dialect of the preview, which stays if the chatbot's setting changes before the confirmation."""
        return self.cleaned_data["csv_dialect"] or self.chatbot.csv_dialect

    def clean_formats(self) -> tuple[str, ...]:
        """Return the formats of the preview, in the usual order."""
        return tuple(stored_formats(self.cleaned_data["formats"] or self.chatbot.export_formats.split()).split())

    def clean_archive(self) -> str:
        return "zip" if self.cleaned_data["archive"] else ""

    def options(self) -> dict[str, Any]:
        given = self.cleaned_data
        of_exports = ("include_files", "include_shared", "csv_dialect", "formats", "archive")
        names = ("erase_exports", *of_exports, "requested_at")
        return {"kind": str(KINDS[given["action"]]), **{name: given[name] for name in names}}


class OneForm(SubjectForm, FilingForm):
    """One request, about a chatter or about conversations. `subject` is a token that overrides the other fields."""

    whom = forms.ChoiceField(
        required=False,
        initial="chatter",
        choices=[
            ("chatter", "Chatter, by UCI value"),
            ("ids", "Conversations, by platform ID"),
            ("numbers", "Conversations, by number"),
        ],
        widget=forms.RadioSelect,
    )
    numbers = forms.CharField(required=False, widget=forms.TextInput(attrs={**AS_TYPED, "inputmode": "numeric"}))
    subject = forms.CharField(required=False, widget=forms.HiddenInput)

    def clean(self) -> None:
        super().clean()
        given = self.cleaned_data
        if not self.errors and (subject := self._subject(given)):
            self.draft = Draft.of(subject, references=(given["reference"],), **self.options())

    def _subject(self, given: dict[str, Any]) -> Selector | None:
        if given["subject"]:
            return self._subject_from_token(given["subject"])
        if self.data.get("offered"):
            self.add_error("subject", "Choose the subject of the request.")
            return None
        is_by_numbers = given["whom"] == "numbers"
        return self._subject_by_numbers(given["numbers"]) if is_by_numbers else self.typed_subject(given)

    def _subject_from_token(self, text: str) -> Selector | None:
        try:
            return load_subject(self.chatbot, self.actor, text)
        except InvalidToken:
            self.add_error(
                None, "This page belongs to another user or chatbot. Enter the subject of the request again."
            )
            return None

    def _subject_by_numbers(self, text: str) -> Selector | None:
        words = re.split(r"[\s,;]+", text.strip())
        if not all(map(_NUMBER.fullmatch, words)) or len(words) > MOST_CONVERSATIONS:
            self.add_error("numbers", f"Enter 1 to {MOST_CONVERSATIONS} numbers separated by spaces.")
            return None
        numbers = list(dict.fromkeys(map(int, words)))
        try:
            return ByConversations(tuple(platform_ids(self.chatbot, numbers)))
        except NoConversation as missing:
            self.add_error("numbers", f"This chatbot has no open conversation {missing}.")
        return None


class ManyForm(FilingForm):
    """Requests about many chatters, pasted or from a file."""

    pasted = forms.CharField(required=False, strip=False, widget=forms.Textarea(attrs={**AS_TYPED, "rows": 10}))
    file = forms.FileField(
        required=False,
        allow_empty_file=True,
        widget=forms.FileInput(attrs={"accept": ".csv,.txt,text/csv,text/plain"}),
    )
    column = forms.CharField(required=False, widget=forms.TextInput(attrs=AS_TYPED))
    reference_column = forms.CharField(required=False, widget=forms.TextInput(attrs=AS_TYPED))

    pasted_rows: PastedValues
    headings: Sequence[str] = ()

    def clean(self) -> None:
        super().clean()
        given = self.cleaned_data
        if self.errors or not self.check_key(given["key"], "Choose the UCI that has these values."):
            return
        if bool(given["pasted"]) == bool(given["file"]):
            self.add_error("pasted", "Paste the values or choose a file, not both.")
        else:
            self._read(given)

    def _read(self, given: dict[str, Any]) -> None:
        try:
            rows = self._rows(given)
        except UnreadableValues as error:
            self.headings = error.headings
            self.add_error(error.where or ("file" if given["file"] else "pasted"), error.text)
            return
        self.pasted_rows = rows
        self.draft = Draft(
            **self.options(),
            key=given["key"],
            values=tuple(row.value for row in rows.rows),
            references=tuple(row.reference or given["reference"] for row in rows.rows),
            rows=tuple(row.number for row in rows.rows),
            is_many=True,
        )

    def _rows(self, given: dict[str, Any]) -> PastedValues:
        columns = {"column": given["column"], "reference_column": given["reference_column"]}
        if file := given["file"]:
            if file.size > pasted_values.MAX_BYTES:
                raise pasted_values.too_large("file")
            return pasted_values.read_file(file.read(), **columns)
        if len(given["pasted"]) > pasted_values.MAX_BYTES:
            raise pasted_values.too_large("pasted")
        return (
            pasted_values.read_table(given["pasted"], **columns)
            if any(columns.values())
            else pasted_values.read_lines(given["pasted"])
        )


class NoConversation(Exception):
    """The chatbot has no conversation with this number."""


class ClosedConversation(Exception):
    """The conversation is deleted or being deleted."""


def subjects_of(chatbot: Chatbot, number: int) -> list[Selector]:
    """Return the first MAX_IDENTITIES chatters of a conversation, then the conversation alone.

    Raises NoConversation, ClosedConversation.
    """
    conversation = Conversation.objects.filter(chatbot=chatbot, pk=number).first()
    if conversation is None:
        raise NoConversation
    if conversation.is_closed or conversation.external_id is None:
        raise ClosedConversation
    ucis = dict(Variable.objects.filter(chatbot=chatbot).values_list("pk", "name"))
    identities = Identity.objects.filter(chatbot=chatbot, conversation=conversation, value__isnull=False)
    # The same as on the conversation's page. A caller can add thousands, and a form has 1,000 fields at most.
    shown = identities.order_by("variable_id", "value")[:MAX_IDENTITIES]
    people = ((uci, str(value)) for uci, value in shown.values_list("variable_id", "value"))
    return [*(ByUci(ucis[uci], value) for uci, value in people), ByConversations((conversation.external_id,))]


def platform_ids(chatbot: Chatbot, numbers: Sequence[int]) -> list[str]:
    """Return the platform's ids of open conversations, in the order of their numbers in `numbers`.

    Raises NoConversation with the first number that has no open conversation.
    """
    open_ones = Conversation.objects.filter(chatbot=chatbot, pk__in=numbers, deletion_request_id__isnull=True)
    known = dict(open_ones.values_list("pk", "external_id"))
    for number in numbers:
        if known.get(number) is None:
            raise NoConversation(number)
    return [str(known[number]) for number in numbers]
