"""Authentication over HTTP: signatures, tokens, scopes, and what an unauthenticated caller can learn."""

from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from chatbots import authentication
from chatbots.authentication import sign
from chatbots.models import ApiKey
from compliance.models import ComplianceRequest
from tests.calls import ALICE, Caller, SigningCaller, TokenCaller, problem
from tests.every_call import AnyCall, every_call

VECTOR = "66f3778d4b2850a1a64fbb190a552ede968527cefc440c1d2f9d5c5fede77b93"
VECTOR_BODY = b'{"end_user_token": "df6a0edc-b31d-461x-ydcx-f7d5f02cd3d0"}'
DELETION = "data-deletion"


# --- Signatures ------------------------------------------------------------------------------------------


def test_a_signature_matches_the_products_documentation():
    assert sign(secret="a_secure_secret", timestamp="1575215418", body=VECTOR_BODY) == VECTOR


def test_the_documented_signature_is_accepted_while_its_timestamp_is_current(chatbot, monkeypatch):
    SigningCaller(chatbot, secret="a_secure_secret")
    headers = {"X-Mindsay-Timestamp": "1575215418", "X-Mindsay-Signature": VECTOR}
    monkeypatch.setattr("chatbots.authentication.time.time", lambda: 1575215418 + 299.0)
    response = Caller(chatbot).post(DELETION, VECTOR_BODY, **headers)
    # The signature is accepted; the body, of another API, is refused.
    problem(response, 400, "invalid")


def test_a_hostile_timestamp_is_stale_and_not_a_server_error(chatbot):
    SigningCaller(chatbot)
    odd = ("0x5f", "²", "١٥٧٥٢١٥٤١٨", "9" * 13, "9" * 10_000, "nan", "inf", "1.5")
    for timestamp in ("", "0", "-1", "+1", "1e9", "1_000", " ", *odd):
        headers = {"X-Mindsay-Timestamp": timestamp, "X-Mindsay-Signature": VECTOR}
        problem(Caller(chatbot).post(DELETION, ALICE, **headers), 401, "stale_timestamp")


def test_a_signature_is_exactly_the_lower_case_hex_over_timestamp_and_body(chatbot):
    right = SigningCaller(chatbot).credentials(b"{}")
    signature = right["X-Mindsay-Signature"]
    spoilt = [signature.upper(), signature[:-1], signature + "0", "", "é" * 64]
    for body, headers in [
        *((b"{}", right | {"X-Mindsay-Signature": one}) for one in spoilt),
        (b"{ }", right),
        (b"{}", right | {"X-Mindsay-Timestamp": str(int(right["X-Mindsay-Timestamp"]) - 1)}),
        *((b"{}", {name: right[name]}) for name in right),
    ]:
        problem(Caller(chatbot).post(DELETION, body, **headers), 401, "invalid_signature")


@pytest.mark.parametrize("end", ["revoked_at", "expires_at"])
def test_a_revoked_or_expired_key_is_refused(chatbot, end):
    codes: dict[Caller, str] = {
        SigningCaller(chatbot): "invalid_signature",
        SigningCaller(chatbot, secret="a newer secret"): "invalid_signature",
        TokenCaller(chatbot): "not_authenticated",
    }
    ApiKey.objects.update(expires_at=timezone.now() + timedelta(minutes=1))
    assert [caller.post(DELETION, ALICE).status_code for caller in codes] == [200] * 3
    ApiKey.objects.update(**{end: Now()})
    for caller, code in codes.items():
        problem(caller.post(DELETION, ALICE), 401, code)


def test_a_token_is_no_signing_secret(chatbot):
    token = TokenCaller(chatbot)
    caller = SigningCaller(chatbot)
    caller.secret = str(token.token)
    problem(caller.post(DELETION, ALICE), 401, "invalid_signature")


def test_an_unknown_slug_looks_like_a_bad_signature(chatbot):
    caller = SigningCaller(chatbot)
    caller.secret = "another secret"
    bad = problem(caller.post(DELETION, ALICE), 401, "invalid_signature")
    unknown = problem(caller.post("/api/v1/chatbots/nobody/data-deletion", ALICE), 401, "invalid_signature")
    assert bad | {"trace_id": "", "request_id": ""} == unknown | {"trace_id": "", "request_id": ""}


def test_a_wrong_signature_costs_the_same_work_however_many_keys_there_are(chatbot, neighbour, monkeypatch):
    caller, work = SigningCaller(chatbot), []
    for number in range(3):
        SigningCaller(neighbour, secret=f"secret number {number}")

    def counting(name):
        original = getattr(authentication, name)

        def call(*args, **kwargs):
            work.append(name)
            return original(*args, **kwargs)

        return call

    for name in ("_matches", "decrypt"):
        monkeypatch.setattr(authentication, name, counting(name))
    caller.secret = "another secret"
    counts = []
    for slug in ("nobody", chatbot.slug, neighbour.slug):
        work.clear()
        problem(caller.post(f"/api/v1/chatbots/{slug}/data-deletion", ALICE), 401, "invalid_signature")
        counts.append(sorted(work))
    assert counts == [["_matches"] * 4 + ["decrypt"] * 4] * 3


def test_the_placeholder_for_a_missing_secret_authenticates_nothing(chatbot):
    caller = SigningCaller(chatbot)
    caller.secret = authentication._NO_SECRET
    problem(caller.post("/api/v1/chatbots/nobody/data-deletion", ALICE), 401, "invalid_signature")
    ApiKey.objects.update(secret_encrypted="v1:gone:AAAA")
    problem(caller.post(DELETION, ALICE), 503, "unavailable")


def test_a_secret_that_cannot_be_decrypted_is_a_server_error_named_in_the_log(chatbot, caplog):
    caller = SigningCaller(chatbot)
    ApiKey.objects.update(secret_encrypted="v1:gone:AAAA")
    response = caller.post(DELETION, ALICE)
    problem(response, 503, "unavailable")
    assert int(response.headers["Retry-After"]) > 0
    assert caller.api_key.prefix in caplog.text
    assert caller.secret not in caplog.text


def test_a_key_works_beside_another_that_cannot_be_decrypted(chatbot):
    caller = SigningCaller(chatbot)
    broken = SigningCaller(chatbot, secret="another secret")
    ApiKey.objects.filter(pk=broken.api_key.pk).update(secret_encrypted="v1:gone:AAAA")
    assert caller.post(DELETION, ALICE).status_code == 200


def test_a_proxys_own_authorization_does_not_disturb_a_signature(chatbot):
    response = SigningCaller(chatbot).post(DELETION, ALICE, Authorization="Basic c3RhZ2luZzpwYXNz")
    assert response.status_code == 200


# --- Tokens ----------------------------------------------------------------------------------------------


def test_the_scheme_is_named_in_any_case(chatbot):
    token = TokenCaller(chatbot).token
    assert Caller(chatbot).post(DELETION, ALICE, Authorization=f"bEARER {token}").status_code == 200


def test_a_call_without_credentials_is_refused_with_www_authenticate(chatbot):
    response = Caller(chatbot).post(DELETION, ALICE)
    problem(response, 401, "not_authenticated")
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_token_that_is_not_exactly_ours_is_refused(chatbot):
    right = str(TokenCaller(chatbot).token)
    for token in (
        *("", right[:-1], right + "0", right[:-1] + ("0" if right[-1] != "0" else "1"), right.upper()),
        *(right.replace("dca_", ""), f"dca_{'0' * 12}_{right.split('_')[2]}", "dca_\x00_\x00", "é" * 80),
        "x" * 100_000,
    ):
        problem(Caller(chatbot).post(DELETION, ALICE, Authorization=f"Bearer {token}"), 401, "not_authenticated")
    assert not ComplianceRequest.objects.exists()


# --- Scopes and use --------------------------------------------------------------------------------------


_READ, _FILE = {"conversations:read"}, {"deletions:write", "exports:write"}
# One of these scopes is needed for each call.
SCOPES: dict[str, set[str]] = {
    "GET conversations": _READ,
    "POST conversations": {"conversations:write"},
    "POST conversations/identify": {"identities:write"},
    "POST conversations/lookup": _READ,
    "GET conversations/<int:number>": _READ,
    "GET conversations/<int:number>/messages": _READ,
    "POST conversations/<int:number>/messages/redact": {"messages:redact"},
    "GET conversations/<int:number>/files": _READ,
    "POST conversations/<int:number>/files": {"conversations:write"},
    "GET conversations/<int:number>/files/<int:file_id>/download": _READ,
    "GET usage": _READ,
    "GET extracts": _READ,
    "GET extracts/<str:day>/download": _READ,
    "POST data-deletion": {"deletions:write"},
    "POST data-export": {"exports:write"},
    "POST preview": _FILE,
    "POST requests/batch": _FILE,
    "GET requests": {"requests:read"},
    "POST requests/lookup": {"requests:read"},
    "GET requests/<uuid:request_id>": {"requests:read"},
    "GET requests/<uuid:request_id>/download": {"requests:read"},
    "GET requests/<uuid:request_id>/callbacks": {"requests:read"},
    "POST requests/<uuid:request_id>/callbacks/resend": _FILE | {"messages:redact"},
    "GET changelog": {"changelog:read"},
    "POST callbacks/test": _FILE | {"messages:redact"},
    "POST requests/<uuid:request_id>/cancel": _FILE | {"messages:redact"},
    "POST requests/<uuid:request_id>/approve": {"requests:approve"},
    "POST requests/<uuid:request_id>/reject": {"requests:approve"},
    "POST requests/<uuid:request_id>/extend": {"requests:approve"},
    "POST requests/<uuid:request_id>/answered": {"requests:approve"},
    "GET legal-holds": {"holds:read"},
    "POST legal-holds": {"holds:write"},
    "POST legal-holds/preview": {"holds:write"},
    "GET legal-holds/<uuid:hold_id>": {"holds:read"},
    "POST legal-holds/<uuid:hold_id>/review": {"holds:write"},
    "POST legal-holds/<uuid:hold_id>/release": {"holds:write"},
}


def send(caller: Caller, call: AnyCall) -> Any:
    path = call.below_slug()
    return caller.get(path) if call.method == "GET" else caller.post(path, b"{}")


def test_a_token_without_the_scope_is_refused_and_the_scope_named(chatbot):
    caller = TokenCaller(chatbot)
    for call in every_call():
        needed = SCOPES[str(call)]
        ApiKey.objects.update(scopes=[one for one in ApiKey.Scope.values if one not in needed])
        detail = problem(send(caller, call), 403, "scope_missing")["detail"]
        assert all(scope in detail for scope in needed), call


@pytest.mark.parametrize("caller_type", [TokenCaller, SigningCaller])
def test_use_is_recorded_at_most_once_a_minute(chatbot, caller_type, django_assert_num_queries):
    caller = caller_type(chatbot)

    def last_used():
        return ApiKey.objects.get(pk=caller.api_key.pk).last_used_at

    assert last_used() is None
    caller.post(DELETION, ALICE)
    first = last_used()
    assert timezone.now() - first < timedelta(minutes=1)
    caller.post(DELETION, ALICE)
    assert last_used() == first
    ApiKey.objects.update(last_used_at=first - timedelta(minutes=2))
    caller.post(DELETION, ALICE)
    assert last_used() > first - timedelta(minutes=1)


def test_a_refused_signature_does_not_count_as_use(chatbot):
    caller = SigningCaller(chatbot)
    caller.secret = "another secret"
    caller.post(DELETION, ALICE)
    assert ApiKey.objects.get().last_used_at is None
