"""Requests wait for workers while something about their chatter changes or is large, or the disk is full."""

import time
from pathlib import Path

import pytest

from tests.faults import company as companies
from tests.faults.catalogue import FAULTS, start_programs
from tests.faults.company import Company
from tests.faults.site import Site
from tests.operated import wait_until
from tests.oracle.client_state import UCI, Known

pytestmark = pytest.mark.long(reason="a site of its own, and 100,000 conversations")

_CONVERSATIONS = 100_000
# So long that some are refused more than once, and well below the half minute after which a claim that cannot be
# requeued costs an attempt.
_FULL_SECONDS = 15.0
_FILES_OF_LOG = 4

# Copies of a stored conversation, with its identity and a message each.
_COPY = """
WITH one AS (
    SELECT c.*, i.variable_id AS key, i.value, i.digest, i.established_by
      FROM conversations_conversation c JOIN conversations_identity i ON i.conversation_id = c.id WHERE c.id = %(one)s
), copies AS (
    INSERT INTO conversations_conversation (chatbot_id, external_id, external_id_digest, uci_variable_id, channel,
           started_at, last_message_at, message_count, has_file_upload, has_agent_handover, has_push)
    SELECT chatbot_id, external_id || '-' || n, sha256((external_id || n)::bytea), uci_variable_id, channel,
           started_at, started_at, 1, FALSE, FALSE, FALSE
      FROM one CROSS JOIN generate_series(1, %(copies)s) AS n
    RETURNING id, chatbot_id
), identities AS (
    INSERT INTO conversations_identity (chatbot_id, conversation_id, variable_id, value, digest, established_by)
    SELECT c.chatbot_id, c.id, one.key, one.value, one.digest, one.established_by FROM copies c CROSS JOIN one
)
INSERT INTO conversations_message (chatbot_id, conversation_id, external_id, sender, kind, text, sent_at)
SELECT chatbot_id, id, 'm', 'user', 'text', 'hello', now() FROM copies
"""

_LEFT = """
SELECT count(*) FILTER (WHERE i.value IS NOT NULL), count(DISTINCT v.id) FILTER (WHERE v.deleted_at IS NOT NULL)
  FROM conversations_conversation v JOIN chatbots_chatbot c ON c.id = v.chatbot_id
  LEFT JOIN conversations_identity i ON i.conversation_id = v.id
 WHERE c.slug = %s AND v.deletion_request_id = %s
"""


def test_the_uci_is_changed_while_requests_wait(site: Site, company: Company) -> None:
    for cluster in site.clusters:
        site.stop(cluster)
    waiting = company.begin_round(to_erase=3, to_export=3)
    later = company.begin_round(to_erase=2, to_export=2)
    waiting.run()
    slug = company.ours.bot
    site.manage("set_chatbot", slug, "--variable", "custom:customer_id", "--uci", "customer_id")
    try:
        # They are still named by the former one.
        later.run()
        start_programs(site)
        assert company.wrong() == []
    finally:
        site.manage("set_chatbot", slug, "--uci", UCI)


_ATTEMPTS = "SELECT max(attempts) FROM compliance_compliancerequest WHERE id = ANY(%s::uuid[])"


def test_requests_wait_for_a_full_disk(site: Site, company: Company) -> None:
    """They are refused repeatedly, lose no attempt, and continue by themselves."""
    if not site.disk:
        pytest.skip(FAULTS["its disk full"].prevented(site))
    # With the connections that they have: PostgreSQL may take no other one.
    for cluster in site.clusters:
        site.freeze(site.pid(cluster))
    # A test before may have filled the disk, too.
    said = {cluster: len(site.log(cluster)) for cluster in site.clusters}
    waiting = company.begin_round(to_erase=12, to_export=8)
    large = company.person(conversations=20)
    company.add_messages(large, 2_000)
    waiting.run()
    company.delete(large)
    # Without a file for its log it would end itself.
    for _ in range(_FILES_OF_LOG):
        site.sql("SELECT pg_logical_emit_message(false, 'next', 'file'), pg_switch_wal()")
    site.sql("CHECKPOINT")
    waits = [request.id for request in company.ours.open]
    with company.fault("its disk full"):
        site.disk.fill()
        try:
            site.resume()
            wait_until(
                lambda: all(".refused " in site.log(cluster)[said[cluster] :] for cluster in site.clusters),
                "it refuses work",
            )
            time.sleep(_FULL_SECONDS)
        finally:
            site.disk.free()
    assert company.wrong() == []
    assert site.sql(_ATTEMPTS, [waits]) == [(0,)]


def test_one_value_has_a_hundred_thousand_conversations(tmp_path: Path) -> None:
    """The guard holds its deletion until it is approved; those of others do not wait for it.

    At a site of its own: at a shared one all later checks would take long.
    """
    with Site(tmp_path / "site") as site:
        company = companies.found(site, Known(), seed=2)
        person = company.person()
        [conversation] = company.conversations_of(person)
        site.sql(_COPY, {"one": conversation.number, "copies": _CONVERSATIONS})
        conversation.copies = _CONVERSATIONS
        others = company.begin_round(to_erase=4, to_export=2)
        deletion = company.delete(person)
        wait_until(lambda: company.ours.shown(deletion)["status"] == "on_hold", "it is held")
        assert company.ours.shown(deletion)["hold_reason"] == "too_many_conversations"
        company.ours.caller.post("approve", f"requests/{deletion.id}/approve", {})
        others.run()
        wait_until(lambda: company.left() == {deletion}, "all others are over", seconds=60)
        assert company.wrong(seconds=300) == []
        assert site.sql(_LEFT, [company.ours.bot, deletion.id]) == [(0, _CONVERSATIONS + 1)]
