"""A client of the Data Compliance API: deletions and exports of what a chatbot platform holds on a person.

from data_compliance_client import Client

with Client("https://compliance.example.com", "acme", token=TOKEN) as client:
    request = client.delete(key="member_id", value="m-77", reference="TICKET-7")
    print(client.wait(request.id).result)
"""

from data_compliance_client import codes
from data_compliance_client.bodies import LogPage, Request, Stored, deletion, export
from data_compliance_client.clients import AsyncClient, Client
from data_compliance_client.errors import (
    APIError,
    ComplianceError,
    DownloadIncomplete,
    InvalidCallback,
    Unreachable,
    WaitTimeout,
)
from data_compliance_client.signing import Callback, sign, verify_callback, verify_signature

__all__ = [
    "APIError",
    "AsyncClient",
    "Callback",
    "Client",
    "ComplianceError",
    "DownloadIncomplete",
    "InvalidCallback",
    "LogPage",
    "Request",
    "Stored",
    "Unreachable",
    "WaitTimeout",
    "codes",
    "deletion",
    "export",
    "sign",
    "verify_callback",
    "verify_signature",
]
