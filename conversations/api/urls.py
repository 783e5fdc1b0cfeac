from django.urls import path

from conversations.api import extracts, views

app_name = "conversations-api"

urlpatterns = [
    path("extracts", extracts.ExtractsView.as_view(), name="extracts"),
    path("extracts/<str:day>/download", extracts.ExtractDownloadView.as_view(), name="extract-download"),
    path("conversations", views.ConversationsView.as_view(), name="conversations"),
    path("conversations/<int:number>/files", views.FilesView.as_view(), name="files"),
]
