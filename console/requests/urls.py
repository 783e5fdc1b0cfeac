"""The paths of the requests' pages."""

from django.urls import URLPattern, path

from console.requests import list_page, request_page

urlpatterns: list[URLPattern] = [
    path("requests/", list_page.requests, name="requests"),
    path("requests/decide/", list_page.decide, name="requests_decide"),
    path("requests/<uuid:request_id>/", request_page.request_page, name="request"),
    path("requests/<uuid:request_id>/progress/", request_page.progress, name="request_progress"),
    path("requests/<uuid:request_id>/download/", request_page.download, name="request_download"),
    path("requests/<uuid:request_id>/download/<int:file_id>/", request_page.download, name="request_copy"),
    path("requests/<uuid:request_id>/<slug:action>/", request_page.act, name="request_action"),
]
