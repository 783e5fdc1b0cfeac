from django.urls import path

from conversations.api import conversations, extracts, identify, messages, usage

app_name = "conversations-api"

urlpatterns = [
    path("extracts", extracts.ExtractsView.as_view(), name="extracts"),
    path("extracts/<str:day>/download", extracts.ExtractDownloadView.as_view(), name="extract-download"),
    path("conversations", conversations.ConversationsView.as_view(), name="conversations"),
    path("conversations/identify", identify.IdentifyView.as_view(), name="identify"),
    path("conversations/lookup", conversations.LookUpView.as_view(), name="look-up"),
    path("conversations/<int:number>", conversations.ConversationView.as_view(), name="conversation"),
    path("conversations/<int:number>/messages", messages.MessagesView.as_view(), name="messages"),
    path("conversations/<int:number>/files", messages.FilesView.as_view(), name="files"),
    path(
        "conversations/<int:number>/files/<int:file_id>/download",
        messages.FileDownloadView.as_view(),
        name="file-download",
    ),
    path("usage", usage.UsageView.as_view(), name="usage"),
]
