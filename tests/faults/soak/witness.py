"""The witness: somebody of whom nobody asks anything, with a conversation and an export that outlive all faults."""

from tests.faults.client import ask
from tests.faults.soak import filing, sending
from tests.faults.soak.circle import Circle
from tests.faults.soak.following import Read, follow, is_whole
from tests.faults.soak.model import Filed, Talk

_NAMESAKES = 3


class Witness:
    """`circle` is that of a chatbot of which nobody files deletions but of the probes' chatters."""

    def __init__(self, circle: Circle) -> None:
        self._circle = circle
        self._talks: list[Talk] = []
        self._export: Filed | None = None
        self._raw = b""

    def begin(self, other: Circle, read: Read) -> None:
        """Store the conversation, export it, and give chatters of another chatbot namesakes in this one."""
        circle = self._circle
        talk = circle.new_talk()
        person = circle.new_person()
        sending.send(circle, [sending.prepared(circle, talk, person.value)])
        self._talks = [talk]
        filing.export(circle)
        [self._export] = circle.open
        while circle.open:
            follow(circle, read)
            circle.wait(0.2)
        self._raw = self._download()
        for _ in range(_NAMESAKES):
            value = other.new_person().value
            for each in (circle, other):
                sent = sending.prepared(each, each.new_talk(), value)
                sending.send(each, [sent])
                if each is circle:
                    self._talks.append(sent.talk)

    def end(self, read: Read) -> None:
        """Look whether everything is as it was."""
        for talk in self._talks:
            is_whole(self._circle, talk)
        if self._download() != self._raw:
            self._circle.told("lost export", "the file of the witness is not what it was", self._export)

    def _download(self) -> bytes:
        assert self._export
        answer = self._circle.caller.get("download", f"requests/{self._export.id}/download", ok=(302,))
        return ask(answer.headers["location"]).raw
