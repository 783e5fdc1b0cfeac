from django.contrib import admin
from django.urls import include, path, re_path

from config import problems

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/v1/chatbots/<slug:slug>/", include("conversations.api.urls")),
    path("api/v1/chatbots/<slug:slug>/", include("compliance.api.urls")),
    re_path(r"^api/", problems.unknown_path),
]

handler400 = problems.bad_request
handler500 = problems.server_error
