"""The paths of these pages."""

from django.urls import URLPattern, path

from console.filing import choosing, many_views, views

urlpatterns: list[URLPattern] = [
    path("file/", choosing.choose_chatbot, name="file"),
    path("file/<slug:slug>/", views.file_request, name="file_request"),
    path("file/<slug:slug>/many/", many_views.file_many, name="file_many"),
]
