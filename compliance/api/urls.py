from django.urls import path

from compliance.api import views

app_name = "compliance-api"

urlpatterns = [
    path("data-deletion", views.DataDeletionView.as_view(), name="data-deletion"),
    path("data-export", views.DataExportView.as_view(), name="data-export"),
    path("requests/<uuid:request_id>", views.RequestView.as_view(), name="request"),
    path("requests/<uuid:request_id>/download", views.DownloadView.as_view(), name="download"),
]
