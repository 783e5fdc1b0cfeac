from django.urls import path

from compliance.api import callbacks, changelog, holds, preview, redaction, requests, submissions

app_name = "compliance-api"

urlpatterns = [
    path("data-deletion", submissions.DataDeletionView.as_view(), name="data-deletion"),
    path("data-export", submissions.DataExportView.as_view(), name="data-export"),
    path("conversations/<int:number>/messages/redact", redaction.RedactView.as_view(), name="redact"),
    path("preview", preview.PreviewView.as_view(), name="preview"),
    path("requests", requests.RequestsView.as_view(), name="requests"),
    path("requests/batch", submissions.BatchView.as_view(), name="batch"),
    path("requests/lookup", requests.LookupView.as_view(), name="lookup"),
    path("requests/<uuid:request_id>", requests.RequestView.as_view(), name="request"),
    path("requests/<uuid:request_id>/download", requests.DownloadView.as_view(), name="download"),
    path("requests/<uuid:request_id>/callbacks", callbacks.CallbacksView.as_view(), name="callbacks"),
    path("requests/<uuid:request_id>/callbacks/resend", callbacks.ResendView.as_view(), name="resend"),
    path("changelog", changelog.ChangeLogView.as_view(), name="changelog"),
    path("callbacks/test", callbacks.SendTestView.as_view(), name="callbacks-test"),
    path("requests/<uuid:request_id>/cancel", requests.CancelView.as_view(), name="cancel"),
    path("requests/<uuid:request_id>/approve", requests.ApproveView.as_view(), name="approve"),
    path("requests/<uuid:request_id>/reject", requests.RejectView.as_view(), name="reject"),
    path("requests/<uuid:request_id>/extend", requests.ExtendView.as_view(), name="extend"),
    path("requests/<uuid:request_id>/answered", requests.AnsweredView.as_view(), name="answered"),
    path("legal-holds", holds.HoldsView.as_view(), name="holds"),
    path("legal-holds/preview", holds.PreviewHoldView.as_view(), name="preview-hold"),
    path("legal-holds/<uuid:hold_id>", holds.HoldView.as_view(), name="hold"),
    path("legal-holds/<uuid:hold_id>/review", holds.ReviewHoldView.as_view(), name="review-hold"),
    path("legal-holds/<uuid:hold_id>/release", holds.ReleaseHoldView.as_view(), name="release-hold"),
]
