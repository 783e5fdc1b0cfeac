"""The paths of this app's pages; `config/urls.py` joins them with those of the other apps."""

from django.urls import URLPattern, path

from console.conversations import extracts_pages, views

urlpatterns: list[URLPattern] = [
    path("conversations/", views.log, name="conversations"),
    path("conversations/<int:number>/", views.transcript, name="conversation"),
    path("conversations/<int:number>/files/<int:file_id>/", views.file, name="conversation_file"),
    path("extracts/", extracts_pages.extracts, name="extracts"),
    path("extracts/again/", extracts_pages.make_again, name="extracts_again"),
]
