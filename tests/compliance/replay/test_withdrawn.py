"""A request that was withdrawn erases nothing by itself."""

from uuid import UUID

import pytest

from chatbots.operations.chatbots import NewVariable, change_chatbot
from compliance.requests import decisions
from conversations.models import VariableValue
from tests.compliance.replay.conftest import replay, work, write_journal
from tests.functional.company import Company, document
from tests.restoring import restored


@pytest.mark.parametrize("in_one_object", [True, False])
def test_its_variable_becomes_no_former_uci(company: Company, *, in_one_object: bool) -> None:
    """Values of a UCI are not kept, so that all that was said of it would go."""
    city = NewVariable("custom", "city")
    change_chatbot(chatbot=company.chatbot, actor="user:7", variables=[city])
    company.send(document("c-1", custom_variables={"city": "Paris"}))
    values = VariableValue.objects.filter(variable__name="city")
    assert values.count() == 1
    with restored():
        change_chatbot(chatbot=company.chatbot, actor="user:7", uci="city")
        selector = {"unique_chatter_identifier_key": "city", "unique_chatter_identifier_value": "Rome"}
        deletion = company.caller.post("data-deletion", selector).json()["request_id"]
        if not in_one_object:
            write_journal()
        decisions.cancel(request_id=UUID(deletion), actor="user:7")
        write_journal()

    replay()
    work()

    assert values.count() == 1
