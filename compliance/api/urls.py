from django.urls import path

from compliance.api import batch, callbacks, deciding, filing, lists, preview, requests

app_name = "compliance-api"

urlpatterns = [
    path("data-deletion", filing.DataDeletionView.as_view(), name="data-deletion"),
    path("data-export", filing.DataExportView.as_view(), name="data-export"),
    path("preview", preview.PreviewView.as_view(), name="preview"),
    path("requests", lists.RequestsView.as_view(), name="requests"),
    path("requests/batch", batch.BatchView.as_view(), name="batch"),
    path("requests/lookup", lists.LookupView.as_view(), name="lookup"),
    path("requests/<uuid:request_id>", requests.RequestView.as_view(), name="request"),
    path("requests/<uuid:request_id>/download", requests.DownloadView.as_view(), name="download"),
    path("requests/<uuid:request_id>/callbacks", callbacks.CallbacksView.as_view(), name="callbacks"),
    path("requests/<uuid:request_id>/callbacks/resend", callbacks.ResendView.as_view(), name="resend"),
    path("requests/<uuid:request_id>/cancel", deciding.CancelView.as_view(), name="cancel"),
    path("requests/<uuid:request_id>/approve", deciding.ApproveView.as_view(), name="approve"),
    path("requests/<uuid:request_id>/reject", deciding.RejectView.as_view(), name="reject"),
]
