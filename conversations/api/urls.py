from django.urls import path

from conversations.api import views

app_name = "conversations-api"

urlpatterns = [
    path("conversations", views.ConversationsView.as_view(), name="conversations"),
    path("conversations/<int:number>/files", views.FilesView.as_view(), name="files"),
]
