"""Verifies the identity tokens of documents, before intake's transaction. A token is neither stored nor logged."""

from collections.abc import Sequence

from chatbots.identity_keys import IdentityKeys, note_use, read_identity_keys
from chatbots.identity_tokens import IdentityClaims, TokenRefused, UnverifiedToken, parse, verify
from chatbots.models import Chatbot
from conversations.documents import Document, DocumentError, DocumentInvalid, token_error

# What a document's token says, or why it is refused; None if there is none.
VerifiedToken = IdentityClaims | DocumentError | None


def verify_tokens(chatbot: Chatbot, documents: Sequence[Document | DocumentInvalid]) -> list[VerifiedToken]:
    """Return for each document what its token says, in order.

    Whether one that has expired is refused depends on what is stored: the caller asks under its locks. Makes no
    statement if no document has a token, else one, and one more where the use of a key is to be noted.

    Raises SecretUnreadable if ENCRYPTION_KEYS cannot decrypt the secret of a key.
    """
    results: list[VerifiedToken] = [None] * len(documents)
    tokens: list[tuple[int, Document, UnverifiedToken]] = []
    for place, document in enumerate(documents):
        if isinstance(document, DocumentInvalid) or (text := document.get("identity_token")) is None:
            continue
        try:
            tokens.append((place, document, parse(text)))
        except TokenRefused as refused:
            results[place] = token_error(refused.detail)
    if not tokens:
        return results
    keys = read_identity_keys(chatbot, {token.kid for _, _, token in tokens})
    used: set[str] = set()
    for place, document, token in tokens:
        try:
            results[place] = _verify(token, document, chatbot=chatbot, keys=keys)
            used.add(token.kid)
        except TokenRefused as refused:
            results[place] = token_error(refused.detail)
    if due := used & keys.unnoted:
        note_use(chatbot, due)
    return results


def _verify(token: UnverifiedToken, document: Document, *, chatbot: Chatbot, keys: IdentityKeys) -> IdentityClaims:
    claims = verify(token, keys.by_kid.get(token.kid), audience=chatbot.public_id, at=keys.at)
    if claims.conversation_id is None and chatbot.token_names_conversation:
        raise TokenRefused("The token must have a conversation_id: this chatbot demands it.")
    if claims.conversation_id not in {None, document["id"]}:
        raise TokenRefused("The token's conversation_id is not the document's id.")
    return claims
