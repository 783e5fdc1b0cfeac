"""The control: somebody of whom nobody asks anything, with a conversation and an export that outlive all faults."""

from tests.oracle import filing, sending
from tests.oracle.client_state import ClientState
from tests.oracle.following import Read, follow, is_whole
from tests.oracle.http import ask
from tests.oracle.model import Conversation, Request

_NAMESAKES = 3


class Control:
    """`state` is that of a chatbot of which nobody files deletions but of the probes' chatters."""

    def __init__(self, state: ClientState) -> None:
        self._state = state
        self._conversations: list[Conversation] = []
        self._export: Request | None = None
        self._raw = b""

    def begin(self, other: ClientState, read: Read) -> None:
        """Store the conversation, export it, and give chatters of another chatbot namesakes in this one."""
        state = self._state
        conversation = state.new_conversation()
        person = state.new_person()
        sending.send(state, [sending.prepared(state, conversation, person.value)])
        self._conversations = [conversation]
        filing.export(state)
        [self._export] = state.open
        while state.open:
            follow(state, read)
            state.wait(0.2)
        self._raw = self._download()
        for _ in range(_NAMESAKES):
            value = other.new_person().value
            for each in (state, other):
                sent = sending.prepared(each, each.new_conversation(), value)
                sending.send(each, [sent])
                if each is state:
                    self._conversations.append(sent.conversation)

    def end(self, read: Read) -> None:
        """Look whether everything is as it was."""
        for conversation in self._conversations:
            is_whole(self._state, conversation)
        if self._download() != self._raw:
            self._state.told("lost export", "the file of the control is not what it was", self._export)

    def _download(self) -> bytes:
        assert self._export
        answer = self._state.caller.get("download", f"requests/{self._export.id}/download", ok=(302,))
        return ask(answer.headers["location"]).raw
