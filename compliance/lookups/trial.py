"""One test call to a resolver, with values that an officer types.

The process that serves the page makes it, so that the values are stored nowhere.
"""

from collections.abc import Mapping
from datetime import timedelta

from django.core.exceptions import ValidationError
from django.views.decorators.debug import sensitive_variables

from chatbots import changelog
from chatbots.callback_secrets import signers_of
from chatbots.models import Chatbot, Resolver
from common import outbound
from compliance.lookups.client import Failure, LookupResult, call_to

MOST_AN_HOUR = 10
# The conversation's id in the call.
CONVERSATION_ID = "try-it"

_WORDS = {
    Failure.NO_ANSWER: "No answer in 5 seconds",
    Failure.NAME_UNKNOWN: "The host name does not resolve",
    Failure.ADDRESS_REFUSED: "Address refused: it leads into a private network",
    Failure.TLS_FAILED: "No encrypted connection: check the certificate",
    Failure.BAD_ANSWER: "What came back is not HTTP",
    Failure.ANSWER_TOO_LONG: "Answered too much: at most 64 KiB are read",
    Failure.NOT_JSON: "Answered 200, but not with JSON",
    Failure.NO_VALUE: "Answered 200, with nothing at the pointer",
    Failure.NOT_TEXT: "Answered 200, with neither a string nor null at the pointer",
    Failure.BAD_VALUE: "Answered 200, with a value that is empty, too long or a placeholder",
}


@sensitive_variables("values", "call")
def run(*, chatbot: Chatbot, values: Mapping[str, str], actor: str) -> str:
    """Call the chatbot's resolver with these values of variables, by name, and return the outcome in words.

    Nothing is stored but an entry of the change log. The outcome contains neither the sent values nor the answer.
    Takes up to some seconds: call it outside any transaction. Raises ValidationError without a resolver or a signing
    key, and after MOST_AN_HOUR calls in an hour.
    """
    resolver = Resolver.objects.filter(chatbot=chatbot).first()
    if resolver is None or not resolver.is_on:
        raise ValidationError("The resolver is off. Set it with set_resolver.")
    if set(values) != set(resolver.sent().values()):
        raise ValidationError("The variables have changed since the page was opened. Try again.")
    signers = signers_of([chatbot.pk])[chatbot.pk]
    if signers.is_nothing or not signers.is_readable:
        raise ValidationError("Look-ups cannot be signed. Create a callback secret first.")
    period = timedelta(hours=1)
    if not changelog.record_if_few("resolver.tried", chatbot=chatbot, actor=actor, most=MOST_AN_HOUR, period=period):
        raise ValidationError(f"The resolver can be tried {MOST_AN_HOUR} times an hour. Wait a while.")
    call = call_to(
        resolver.url,
        pointer=resolver.pointer,
        conversation_id=CONVERSATION_ID,
        variables=values,
        signers=signers,
        tls=outbound.tls_context(),
    )
    result = call.run_in_time()
    data = {"outcome": str(result.error or ("unknown" if result.is_unknown else "value"))}
    changelog.record("resolver.trial_ended", chatbot_id=chatbot.pk, actor=actor, data=data)
    return describe(result)


def describe(result: LookupResult) -> str:
    """Describe the result of a call, without the content of its answer."""
    if result.value is not None:
        return "Answered with a value"
    if result.is_unknown:
        return "Answered 404: not known" if result.status == 404 else "Answered null: not known"
    if result.error is Failure.BAD_STATUS:
        return f"Answered {result.status}"
    return _WORDS.get(result.error or Failure.BAD_ANSWER, _WORDS[Failure.BAD_ANSWER])
